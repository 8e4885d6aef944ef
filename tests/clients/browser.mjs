// Published PeerPigeon clients in Debian's Chromium, headless, one page each in
// a window of its own, driven over stdin and stdout exactly like those in Node.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { emit, serve } from './lines.mjs';

const { chromium } = await import('playwright-core');

const file = (name) => new URL(name, import.meta.url);
const served = {
  '/': ['text/html', file('page.html')],
  '/peers.mjs': ['text/javascript', file('peers.mjs')],
  '/film.mjs': ['text/javascript', file('film.mjs')],
  '/peerpigeon-browser.js': ['text/javascript', file('node_modules/peerpigeon/dist/peerpigeon-browser.js')],
};
const site = createServer(async (request, response) => {
  const [type, path] = served[request.url] ?? [];
  if (!path) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': type }).end(await readFile(path));
});
await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
const address = `http://127.0.0.1:${site.address().port}/`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  // Playwright has pages in the background run on as if they were in front; for users they do not.
  ignoreDefaultArgs: [
    '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
  ],
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    // Candidates with plain addresses, loopback among them: no multicast DNS is needed to resolve them.
    '--disable-features=WebRtcHideLocalIpsWithMdns', '--allow-loopback-in-peer-connection',
    // A page of this machine is asked for the microphone by the client; there is one, and its user agrees.
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
    // Nothing leaves this machine.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
});
browser.on('disconnected', () => process.exit(0));

const pages = new Map();

/** For the same reason it pretends that each page has the focus, and has no public way not to. */
async function unpretend(page) {
  const { delegate, _delegate } = page._connection.toImpl(page);
  await (delegate ?? _delegate)._mainFrameSession._client.send('Emulation.setFocusEmulationEnabled', { enabled: false });
}

async function open(client) {
  const page = await (await browser.newContext()).newPage();
  await unpretend(page);
  page.on('console', (message) => console.error(`[${client}] ${message.text()}`));
  page.on('pageerror', (error) => emit({ event: 'fault', client, text: String(error) }));
  page.on('crash', () => pages.has(client) && emit({ event: 'fault', client, text: 'the page crashed' }));
  await page.exposeFunction('tell', emit);
  await page.goto(address);
  await page.waitForFunction(() => window.run);
  pages.set(client, page);
}

function of(client) {
  const page = pages.get(client);
  if (!page) throw new Error(`no client '${client}' here`);
  return page;
}

async function lifecycle(page, state) {
  const session = await page.context().newCDPSession(page);
  await session.send('Page.setWebLifecycleState', { state });
  await session.detach();
}

// What a user does with a tab, and its client cannot.
const tabs = {
  open: ({ client }) => open(client),
  /** Its next client has another name here. */
  async reload({ client, as }) {
    const page = of(client);
    pages.delete(client);
    await page.reload();
    await page.waitForFunction(() => window.run);
    pages.set(as, page);
  },
  async shut({ client }) {
    await of(client).close({ runBeforeUnload: true });
    pages.delete(client);
  },
  /** Another tab of its window comes to the front. */
  async hide({ client }) {
    const other = await of(client).context().newPage();
    await unpretend(other);
    await other.bringToFront();
    await of(client).waitForFunction(() => document.visibilityState === 'hidden');
  },
  async show({ client }) {
    await of(client).bringToFront();
    await of(client).waitForFunction(() => document.visibilityState === 'visible');
  },
  /** Its process dies. */
  async crash({ client }) {
    const page = of(client);
    pages.delete(client);
    const session = await page.context().newCDPSession(page);
    const crashed = page.waitForEvent('crash');
    session.send('Page.crash').catch(() => {});
    await crashed;
  },
  freeze: ({ client }) => lifecycle(of(client), 'frozen'),
  thaw: ({ client }) => lifecycle(of(client), 'active'),
};

serve(async (command) => {
  const { cmd, client } = command;
  if (tabs[cmd]) {
    await tabs[cmd](command);
    return emit({ event: 'done', client, cmd });
  }
  if (cmd === 'connect' && !pages.has(client)) await open(client);
  await of(client).evaluate((it) => window.run(it), command);
  if (cmd === 'close') {
    await of(client).context().close();
    pages.delete(client);
  }
}, () => browser.close());
emit({ event: 'ready', runtime: `chromium ${browser.version()}` });
