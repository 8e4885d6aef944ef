// What a hub answers at its door, a line for each thing that is tried: node door.mjs HOST:PORT
// Run with two hubs it prints the same where they are the same to a client. Ids and times are left out.

import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';

const hub = process.argv[2];
setTimeout(() => {
  console.error('the hub gave no answer to what follows the last line');
  process.exit(1);
}, 120_000).unref();
let peers = 0;
const fresh = () => (++peers).toString(16).padStart(2, '0').repeat(20);
const tell = (what, answer) => console.log(JSON.stringify({ what, answer }));

/** A WebSocket that is open, or was closed at once. */
async function open(query, { protocols, headers, path = '/', deflate = false } = {}) {
  const ws = new WebSocket(`ws://${hub}${path}${query}`, protocols, { headers, perMessageDeflate: deflate });
  const heard = [];
  const over = new Promise((resolve) => ws.on('close', resolve));
  ws.on('message', (data, binary) => heard.push(binary ? 'binary' : JSON.parse(data)));
  ws.on('error', (error) => heard.push(error.message));
  await new Promise((resolve) => ws.on('open', resolve).on('close', resolve));
  // What the hub says or does first.
  while (heard.length === 0 && ws.readyState !== WebSocket.CLOSED) await sleep(5);
  return { ws, heard, over, say: (message) => ws.send(typeof message === 'object' && !Buffer.isBuffer(message) ? JSON.stringify(message) : message) };
}

/** Without what differs from run to run, and in one order. */
function plain(value, ids) {
  if (Array.isArray(value)) return value.map((each) => plain(each, ids));
  if (value === null || typeof value !== 'object') return ids[value] ?? value;
  const members = Object.keys(value).filter((name) => name !== 'timestamp').sort();
  return Object.fromEntries(members.map((name) => [name, plain(value[name], ids)]));
}

/** All that came before the pong; the hub has dealt with everything by then. */
async function settle({ heard, say }) {
  say({ type: 'ping' });
  while (!heard.some((it) => it.type === 'pong')) await sleep(5);
  return heard.splice(0).filter((it) => it.type !== 'pong');
}

/** Waits until both are told of the other. Of two that are not to be it takes as long as it might. */
async function introduced(pair, told) {
  const discovers = ({ heard }, at) => [...told[at], ...heard].some((it) => it.type === 'peer-discovered');
  for (let waited = 0; waited < 1500 && !pair.every(discovers); waited += 10) await sleep(10);
}

const ID = 'ab'.repeat(20);
for (const [what, query, more] of [
  ['a path', `?peerId=${fresh()}`, { path: '/ws' }], ['a deep path', `?peerId=${fresh()}`, { path: '/a/b/%zz/../c' }],
  ['the path of a page', `?peerId=${fresh()}`, { path: '/health' }],
  ['no id', ''], ['an empty id', '?peerId='], ['a short id', '?peerId=abc'], ['a long id', `?peerId=${ID}0`],
  ['another letter', `?peerId=g${ID.slice(1)}`], ['capitals', `?peerId=${ID.toUpperCase()}`], ['both', `?peerId=${'aB'.repeat(20)}`],
  ['the name in lower case', `?peerid=${ID}`], ['two ids', `?peerId=${ID}&peerId=xyz`], ['two ids, the first bad', `?peerId=xyz&peerId=${ID}`],
  ['among others', `?a=1&peerId=${ID}&b=%20`], ['escaped', `?peerId=%61${ID.slice(1)}`], ['a plus before it', `?peerId=+${ID}`],
  ['a line end behind it', `?peerId=${ID}%0a`], ['a semicolon', `?x=1;peerId=${ID}`],
  ['an origin', `?peerId=${ID}`, { headers: { origin: 'https://app.example' } }], ['no origin of a page', `?peerId=${ID}`, { headers: { origin: 'null' } }],
  ['compression', `?peerId=${ID}`, { deflate: true }],
  ['a subprotocol', `?peerId=${ID}`, { protocols: 'chat.v1' }], ['subprotocols', `?peerId=${ID}`, { protocols: ['b', 'a', 'x-y_z~'] }],
]) {
  const one = await open(query, more);
  const code = one.ws.readyState === WebSocket.OPEN ? undefined : await one.over;
  tell(what, { heard: plain(one.heard, {}), code, protocol: one.ws.protocol, extensions: one.ws.extensions });
  one.ws.close(4001);
  await one.over;
}

// Clients' messages: each is told of the other, and what one sends the other gets.
const announce = (more) => ({ type: 'announce', data: {}, ...more });
const binary = (message) => Buffer.from(JSON.stringify(message));
for (const [what, first, second, then] of [
  ...[undefined, null, '', 0, false, 5, -1.5, true, 'a', '5', ' ', '__proto__', 'é🐦', 'x'.repeat(256)].map((networkName) =>
    [`network ${JSON.stringify(networkName)}`, announce({ networkName }), announce({ networkName }), (to) => ({ type: 'offer', networkName, targetPeerId: to, data: 1 })]),
  ['networks 5 and "5"', announce({ networkName: 5 }), announce({ networkName: '5' })],
  ['networks of other case', announce({ networkName: 'a' }), announce({ networkName: 'A' })],
  ['no network and global', announce({}), announce({ networkName: 'global' }), (to) => ({ type: 'offer', networkName: null, targetPeerId: to })],
  ...[undefined, null, 7, true, {}, { name: 'A', nested: [{ x: null }] }].map((data) =>
    [`data ${JSON.stringify(data)}`, announce({ data }), announce({ data }), (to) => ({ type: 'ice-candidate', targetPeerId: to, data })]),
  ['maxPeers of any kind', announce({ maxPeers: 'many' }), announce({ maxPeers: -1 }), (to) => ({ type: 'answer', maxPeers: {}, targetPeerId: to, data: [] })],
  ['members of any kind', announce({ targetPeerId: 5, fromPeerId: 7 }), announce({ targetPeerId: 'me', messageId: [] }), (to) => ({ type: 'offer', targetPeerId: to, fromPeerId: '', extra: {} })],
  ['binary messages', binary(announce({})), binary(announce({ networkName: 'global' })), (to) => binary({ type: 'offer', targetPeerId: to, data: 'é' })],
  ['space around it', ` ${JSON.stringify(announce({}))}\n`, announce({}), (to) => `\t${JSON.stringify({ type: 'offer', targetPeerId: to })} `],
  ['an announce again', announce({}), announce({}), () => announce({ data: { again: 1 } })],
  ['another network', announce({}), announce({}), (to) => ({ type: 'cleanup', networkName: 'other', targetPeerId: to })],
]) {
  const ids = { [fresh()]: 'ONE', [fresh()]: 'TWO' };
  const [one, two] = Object.keys(ids);
  const pair = [await open(`?peerId=${one}`), await open(`?peerId=${two}`)];
  const told = [[], []];
  for (const [at, message] of [[0, first], [1, second], [0, then?.(two)], [0], [1]]) {
    if (message !== undefined) pair[at].say(message);
    told[at].push(...await settle(pair[at]));
    if (message === second) await introduced(pair, told);
  }
  tell(what, told.map((heard) => plain(heard, ids)));
  for (const client of pair) client.ws.close();
  await Promise.all(pair.map((client) => client.over));
}

// Pings, whatever else they say; text that is none of them leaves the connection open.
const odd = await open(`?peerId=${ID}`);
odd.heard.length = 0;
for (const text of ['', 'hello', '[]', 'null', '7', '"x"', '{}', '{"type":7}', '{"type":"hello"}', '{"type":"PING"}', '\ufeff{"type":"ping"}']) odd.say(text);
await settle(odd);
for (const more of [{ data: null }, { networkName: 5 }, { networkName: {} }, { targetPeerId: 'zz', fromPeerId: 7, maxPeers: 'x' }, { data: 'x'.repeat(1 << 19) }]) {
  odd.say({ type: 'ping', ...more });
}
odd.say(Buffer.from('{"type":"ping"}'));
while (odd.heard.length < 6) await sleep(5);
tell('pings', plain(odd.heard, { [ID]: 'ID' }));
odd.ws.terminate();

// How it ends.
for (const [what, act] of [
  ['a message over 1 MiB', (ws) => ws.send('x'.repeat((1 << 20) + 1))],
  ['no mask', (ws) => ws._socket.write(Buffer.from([0x81, 0]))], ['a reserved bit', (ws) => ws._socket.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0]))],
  ['no opcode', (ws) => ws._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))],
  ['text that is no UTF-8', (ws) => ws._socket.write(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff]))],
  ['1000', (ws) => ws.close(1000, 'bye')], ['no code', (ws) => ws.close()], ['3001', (ws) => ws.close(3001)],
]) {
  const client = await open(`?peerId=${fresh()}`);
  act(client.ws);
  tell(what, await client.over);
}

// Pages. A hub of the JavaScript version counts itself among its peers too, a while after its start.
const page = (path, init) => fetch(`http://${hub}${path}`, init);
while ((await (await page('/hubs')).json()).totalHubs === 0) await sleep(50);
const health = await (await page('/health')).json();
for (const path of ['/', '/health', '/hubs', '/health/', '/favicon.ico', '/?peerId=1']) {
  for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
    const answer = await page(path, { method, headers: { origin: 'https://app.example' }, body: method === 'POST' ? '{"a":1}' : undefined });
    const text = await answer.text();
    const shown = text.startsWith('{') ? 'JSON' : text.slice(0, 'PeerPigeon WebSocket Signaling Server'.length);
    tell(`${method} ${path}`, [answer.status, method === 'OPTIONS' || answer.headers.get('content-type').split(';')[0], answer.headers.get('access-control-allow-origin'), shown]);
  }
}
const kinds = (value, names) => names.map((name) => [name, typeof value[name]]);
tell('health', kinds(health, ['status', 'timestamp', 'uptime', 'isHub', 'connections', 'peers', 'hubs', 'networks']));
tell('memory', kinds(health.memory, ['rss', 'heapTotal', 'heapUsed', 'external', 'arrayBuffers']));
const hubs = await (await page('/hubs')).json();
tell('hubs', [health.status, health.isHub, health.hubs, hubs.totalHubs, hubs.hubs.length]);
tell('a hub', kinds(hubs.hubs[0], ['peerId', 'registeredAt', 'lastActivity', 'networkName', 'data', 'connectedAt']));
tell('the mesh', hubs.hubs[0].networkName);
const preflight = await page('/health', { method: 'OPTIONS', headers: {
  origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-a, authorization', 'access-control-request-private-network': 'true' } });
const allowed = (name) => preflight.headers.get(`access-control-allow-${name}`);
tell('preflight', [['GET', 'POST', 'OPTIONS'].map((method) => allowed('methods').includes(method)), allowed('headers'), allowed('private-network')]);
