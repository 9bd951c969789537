// What the browser keeps: for ever (local) or until the window closes (session). Where storage is
// switched off or full, things are kept until the page is left.

const fallback = new Map();

function keeper(storageName) {
  return {
    get(name) {
      try {
        return window[storageName].getItem(`mmsearch-${name}`) ?? fallback.get(name) ?? null;
      } catch {
        return fallback.get(name) ?? null;
      }
    },
    set(name, value) {
      try {
        window[storageName].setItem(`mmsearch-${name}`, value);
      } catch {
        fallback.set(name, value);
      }
    },
  };
}

export const forEver = keeper("localStorage");
export const forSession = keeper("sessionStorage");
