// Shows the page where the service cannot be reached: the page then says so, and tries again by itself.
//
// It stores the files of one version of the page, which hold no data, and nothing else: no answer of the service,
// which are private, ever goes through it. Where the service answers, its page is taken, so that none is old.

const VERSION = "@version@";
const FILES = "@files@".split(" ");
const SCOPE = new URL("./", self.location).pathname;
const FOLDER = `${SCOPE}ui/${VERSION}/`;
// Other services may be at other paths of the same address.
const CACHE_OF_SCOPE = `mmsearch page of ${SCOPE} `;
const CACHE = CACHE_OF_SCOPE + VERSION;
// What proxies answer for a service that is not there.
const GONE = new Set([502, 503, 504]);

self.addEventListener("install", (event) => event.waitUntil(store().then(() => self.skipWaiting())));

async function store() {
  const page = await fetch(SCOPE, { cache: "no-store" });
  // The service may have been updated since: its new worker comes next.
  const isOurs = page.ok && (await page.clone().text()).includes(`ui/${VERSION}/`);
  if (!isOurs) throw new Error("The page is of another version.");
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((name) => FOLDER + name));
  await cache.put(SCOPE, page);
}

self.addEventListener("activate", (event) => event.waitUntil(clean().then(() => self.clients.claim())));

async function clean() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(CACHE_OF_SCOPE) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate" && pathname === SCOPE) event.respondWith(page(request));
  else if (pathname.startsWith(FOLDER)) event.respondWith(file(request));
});

async function page(request) {
  try {
    const answer = await fetch(request);
    if (!GONE.has(answer.status)) return answer;
    return (await stored(SCOPE)) ?? answer;
  } catch (error) {
    const answer = await stored(SCOPE);
    if (answer) return answer;
    throw error;
  }
}

const file = async (request) => (await stored(request)) ?? fetch(request);

const stored = async (request) => (await caches.open(CACHE)).match(request);
