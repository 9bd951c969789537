// Lets browsers install the page as an app, and open it while the service cannot be reached. Browsers allow this
// at localhost and over HTTPS alone.

const AFTER_MS = 3000;

// Later, so that the first pictures do not wait for it.
export function installServiceWorker() {
  if (!("serviceWorker" in navigator)) return;
  const root = new URL("../../", import.meta.url);
  setTimeout(() => {
    navigator.serviceWorker
      .register(new URL("service-worker.js", root), { scope: root.pathname })
      .catch(() => {}); // the page works without it, such as below a certificate that is not trusted
  }, AFTER_MS);
}
