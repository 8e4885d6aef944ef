// Published PeerPigeon clients in Debian's Chromium, headless, one page each,
// driven over stdin and stdout exactly like those in Node.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { emit, serve } from './lines.mjs';

const { chromium } = await import('playwright-core');

const file = (name) => new URL(name, import.meta.url);
const served = {
  '/': ['text/html', file('page.html')],
  '/peers.mjs': ['text/javascript', file('peers.mjs')],
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
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    // Candidates with plain addresses, loopback among them: no multicast DNS is needed to resolve them.
    '--disable-features=WebRtcHideLocalIpsWithMdns', '--allow-loopback-in-peer-connection',
    // Nothing leaves this machine.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
});
browser.on('disconnected', () => process.exit(0));

const pages = new Map();

async function page(client) {
  const fresh = await (await browser.newContext()).newPage();
  fresh.on('console', (message) => console.error(`[${client}] ${message.text()}`));
  fresh.on('pageerror', (error) => emit({ event: 'fault', client, text: String(error) }));
  fresh.on('crash', () => emit({ event: 'fault', client, text: 'the page crashed' }));
  await fresh.exposeFunction('tell', emit);
  await fresh.goto(address);
  await fresh.waitForFunction(() => window.run);
  pages.set(client, fresh);
}

serve(async (command) => {
  if (command.cmd === 'connect') await page(command.client);
  const target = pages.get(command.client);
  if (!target) throw new Error(`no client '${command.client}' here`);
  await target.evaluate((it) => window.run(it), command);
  if (command.cmd === 'close') {
    await target.context().close();
    pages.delete(command.client);
  }
}, () => browser.close());
emit({ event: 'ready', runtime: `chromium ${browser.version()}` });
