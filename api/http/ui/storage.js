// Browser storage: permanent (local) or until the window closes (session). If storage is disabled
// or full, values are stored in memory until the page is left.

const fallback = new Map();

function storageOf(storageName) {
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

export const local = storageOf("localStorage");
export const session = storageOf("sessionStorage");
