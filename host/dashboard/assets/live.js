// One stream of changes for all pages of a hub that are open in a browser: over HTTP/1.1 a browser keeps six connections to a host, and each
// stream holds one. It runs in a worker that these pages share.
//
// A page says `{ want, hub }`: the address of its own stream, and that of all changes of its hub. Both only tell that something has changed.
// It is told `{ state }`: "on", "changed", "lost" or "unauthorized". While only one stream is asked for in a hub, it is that one; else it is
// the one of all changes. A page says `{ stop: true }` when nobody looks at it, and `{ here: true }` as long as it is there.

const SILENT_MS = 60000, AGAIN_MS = 3000;
const pages = new Map();
const hubs = new Map();

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    if (data.stop) pages.delete(port);
    else if (data.want) pages.set(port, { ...data, seen: Date.now() });
    else if (pages.has(port)) pages.get(port).seen = Date.now();
    arrange();
  };
});

/** Opens and closes streams so that they are those that the pages need. */
function arrange() {
  const needed = new Map();
  for (const page of pages.values()) {
    const wanted = needed.get(page.hub) ?? new Set();
    needed.set(page.hub, wanted.add(page.want));
  }
  for (const [hub, wanted] of needed) {
    const url = wanted.size === 1 ? [...wanted][0] : hub;
    const known = hubs.get(hub);
    // One of all changes is kept for the last page, too: the next one is likely to be opened soon.
    if (known && (known.url === url || known.url === hub)) continue;
    known?.source.close();
    open(hub, url);
  }
  for (const [hub, known] of hubs) {
    if (needed.has(hub)) continue;
    known.source.close();
    hubs.delete(hub);
  }
  for (const [port, page] of pages) {
    const known = hubs.get(page.hub);
    if (page.told || !known?.state) continue;
    page.told = true;
    port.postMessage({ state: known.state });
  }
}

function open(hub, url) {
  const source = new EventSource(url);
  const isFirst = !hubs.has(hub);
  const known = { url, source, state: hubs.get(hub)?.state, isFirst };
  hubs.set(hub, known);
  const is = () => hubs.get(hub) === known;
  source.onopen = () => {
    if (!is()) return;
    known.state = "on";
    tell(hub, "on");
    // What happened while there was no stream is looked up once.
    if (!known.isFirst) tell(hub, "changed");
    known.isFirst = false;
  };
  source.onerror = () => {
    if (!is()) return;
    known.state = "lost";
    tell(hub, "lost");
    // A browser gives up for good when the answer is an error, such as one of a proxy while the host restarts.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => is() && open(hub, url), AGAIN_MS);
  };
  source.addEventListener("changed", () => is() && tell(hub, "changed"));
  source.addEventListener("unauthorized", () => is() && tell(hub, "unauthorized"));
}

function tell(hub, state) {
  for (const [port, page] of pages) {
    if (page.hub !== hub) continue;
    page.told ||= state !== "changed";
    port.postMessage({ state });
  }
}

// A window that crashed says nothing.
setInterval(() => {
  const old = Date.now() - SILENT_MS;
  for (const [port, page] of pages) if (page.seen < old) pages.delete(port);
  arrange();
}, SILENT_MS / 2);
