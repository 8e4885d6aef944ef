// What clients see of hubs that form a mesh: one published client at each of the
// hubs whose ports are given, and one more when the hubs have migrated. Tells, a
// line each, who found whom and who heard whom.

import { Console } from 'node:console';
import { homely } from './peers.mjs';

const say = (line) => process.stdout.write(`${line}\n`);
// What the package prints itself would hide all else.
globalThis.console = new Console(process.stderr, process.stderr);

const { default: wrtc } = await import('@koush/wrtc');
wrtc.RTCPeerConnection = homely(wrtc.RTCPeerConnection);
const { PeerPigeonMesh } = await import('peerpigeon');

const ports = process.argv.slice(2);
const names = new Map();
const name = (id) => names.get(id) ?? `somebody (${id.slice(0, 8)})`;

/** Joins as any application does, and says its name to all again and again. */
async function join(called, port) {
  const mesh = new PeerPigeonMesh({ networkName: 'three-hubs' });
  const heard = new Set();
  mesh.addEventListener('peerDiscovered', ({ peerId }) => say(`${called} found ${name(peerId)}`));
  mesh.addEventListener('messageReceived', ({ from, content }) => {
    if (from === mesh.peerId || heard.has(from)) return;
    heard.add(from);
    say(`${called} heard ${name(from)} say "${content}"`);
  });
  await mesh.init();
  names.set(mesh.peerId, called);
  say(`${called} is ${mesh.peerId.slice(0, 8)}…, at ws://127.0.0.1:${port}`);
  await mesh.connect(`ws://127.0.0.1:${port}`);
  setInterval(() => mesh.sendMessage(`hello from ${called}`), 500);
  return heard;
}

/** Waits until it is so; what takes longer than a minute is said, and not waited for. */
async function until(what, is) {
  for (let tries = 0; tries < 300; tries++) {
    if (await is()) return say(`-- ${what}`);
    await new Promise((later) => setTimeout(later, 200));
  }
  say(`-- NOT after a minute: ${what}`);
}

async function status(port) {
  try {
    return await (await fetch(`http://127.0.0.1:${port}/health`)).json();
  } catch {
    return {};
  }
}

const all = (is) => Promise.all(ports.map(async (port) => is(await status(port)))).then((each) => each.every(Boolean));

await until('the hubs know each other', () => all((hub) => hub.mesh?.knownHubs === ports.length - 1));
const early = await Promise.all(ports.map((port, at) => join(['Ada', 'Ben', 'Cyd'][at] ?? `client ${at}`, port)));
await until('before migration: all heard all', () => early.every((heard) => heard.size === ports.length - 1));
await until('the hubs have migrated: no WebSocket between them is left', () => all((hub) => hub.mesh?.migrated));
const late = await Promise.all(ports.map((port, at) => join(['Dan', 'Eve', 'Fay'][at] ?? `newcomer ${at}`, port)));
await until('after migration: all heard all, the newcomers too', () =>
  [...early, ...late].every((heard) => heard.size === 2 * ports.length - 1));
