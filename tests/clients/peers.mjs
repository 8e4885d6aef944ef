// Drives published PeerPigeon clients by command. Runs in Node and in a page alike.

import { film, watch } from './film.mjs';

/** What a client says again and again, with a number behind it: it is only counted by those who hear it. */
const CHAT = 'chat ';

/**
 * The platform's RTCPeerConnection as tests need it, which the client cannot be
 * told: it asks none of the public STUN servers, so that tests stay on this machine.
 */
export function homely(RTCPeerConnection) {
  return class extends RTCPeerConnection {
    constructor(configuration = {}, ...rest) {
      super({ ...configuration, iceServers: [] }, ...rest);
    }
  };
}

/** Returns the function that carries out one command; `emit` takes the events. */
export function peers(PeerPigeonMesh, emit) {
  const clients = new Map();

  /** Joins as any application does. `peerId` is for one that comes back under its id; with `chat` it says something every so many ms. */
  async function connect({ client, url, network, peerId, chat }) {
    const mesh = new PeerPigeonMesh({ networkName: network, ...(peerId && { peerId }) });
    // When a chat of whom was heard, in ms since 1970.
    const heard = new Map();
    const tell = (event, more = {}) => emit({ event, client, at: Date.now(), ...more });
    mesh.addEventListener('peerDiscovered', ({ peerId: peer }) => tell('discovered', { peer }));
    mesh.addEventListener('peerConnected', ({ peerId: peer }) => tell('peerConnected', { peer }));
    mesh.addEventListener('peerDisconnected', ({ peerId: peer, reason }) => tell('peerDisconnected', { peer, reason }));
    mesh.addEventListener('messageReceived', ({ from, content, direct }) => {
      if (from === mesh.peerId || content === undefined) return;
      if (!String(content).startsWith(CHAT)) return tell('message', { peer: from, text: String(content), direct: !!direct });
      if (!heard.has(from)) {
        heard.set(from, []);
        tell('heard', { peer: from });
      }
      heard.get(from).push(Date.now());
    });
    mesh.addEventListener('statusChanged', ({ type, message }) => {
      if (type === 'connected' || type === 'disconnected') tell(type);
      if (type === 'error' || type === 'warning') tell('complaint', { text: message });
    });
    const state = { mesh, heard, said: [], frames: watch(mesh) };
    clients.set(client, state);
    await mesh.init();
    tell('named', { peer: mesh.peerId });
    if (chat) {
      state.chat = setInterval(() => {
        state.said.push(Date.now());
        mesh.sendMessage(CHAT + state.said.length);
      }, chat);
    }
    await mesh.connect(url);
  }

  function of(client) {
    const state = clients.get(client);
    if (!state) throw new Error(`no client '${client}' here`);
    return state;
  }

  const commands = {
    connect,
    async send({ client, to, text }) {
      const { mesh } = of(client);
      const id = to ? await mesh.sendDirectMessage(to, text) : await mesh.sendMessage(text);
      if (!id) throw new Error('the client did not take the message');
    },
    status({ client }) {
      const { mesh } = of(client);
      emit({
        event: 'status',
        client,
        connected: mesh.connected,
        discovered: mesh.getDiscoveredPeers().map((peer) => peer.peerId),
        peers: mesh.getConnectedPeerIds(),
      });
    },
    async film({ client }) {
      await film(of(client).mesh);
      emit({ event: 'films', client });
    },
    /** When it heard the others' chat and saw their video, and when it said its own. */
    hearing({ client }) {
      const { heard, said, frames } = of(client);
      emit({ event: 'hearing', client, heard: Object.fromEntries(heard), said, frames: Object.fromEntries(frames) });
    },
    /** Blocks its thread, as an application that calculates does. */
    block({ client, ms }) {
      of(client);
      for (const end = Date.now() + ms; Date.now() < end;);
    },
    close({ client }) {
      const { mesh, chat } = of(client);
      clearInterval(chat);
      mesh.disconnect();
      clients.delete(client);
      emit({ event: 'closed', client });
    },
  };

  return async (command) => {
    const run = commands[command.cmd];
    if (!run) throw new Error(`no command '${command.cmd}'; there are ${Object.keys(commands).join(', ')}`);
    await run(command);
  };
}
