// Drives published PeerPigeon clients by command. Runs in Node and in a page alike.

/**
 * The platform's RTCPeerConnection as tests need it, which the client cannot be
 * told: it asks none of the public STUN servers, so that tests stay on this
 * machine, and gathers no candidates ahead, which for eight clients in one
 * process takes more sockets than a process may have.
 */
export function homely(RTCPeerConnection) {
  return class extends RTCPeerConnection {
    constructor(configuration = {}, ...rest) {
      super({ ...configuration, iceServers: [], iceCandidatePoolSize: 0 }, ...rest);
    }
  };
}

/** Returns the function that carries out one command; `emit` takes the events. */
export function peers(PeerPigeonMesh, emit) {
  const clients = new Map();

  async function connect({ client, url, network, peerId, maxPeers = 10 }) {
    // Below its connectivity floor a client makes offers that are the other's to make; where both do at once, this
    // version may leave the pair unconnected for good, whatever the hub does. Without a floor the larger id offers.
    const mesh = new PeerPigeonMesh({ peerId, networkName: network, maxPeers, connectivityFloor: 0 });
    clients.set(client, mesh);
    const tell = (event, more = {}) => emit({ event, client, ...more });
    mesh.addEventListener('peerDiscovered', ({ peerId: peer }) => tell('discovered', { peer }));
    mesh.addEventListener('peerConnected', ({ peerId: peer }) => tell('peerConnected', { peer }));
    mesh.addEventListener('peerDisconnected', ({ peerId: peer, reason }) => tell('peerDisconnected', { peer, reason }));
    mesh.addEventListener('messageReceived', ({ from, content, direct }) => {
      if (from !== mesh.peerId && content !== undefined) tell('message', { peer: from, text: String(content), direct: !!direct });
    });
    mesh.addEventListener('statusChanged', ({ type, message }) => {
      if (type === 'connected' || type === 'disconnected') tell(type);
      if (type === 'error' || type === 'warning') tell('complaint', { text: message });
    });
    await mesh.init();
    await mesh.connect(url);
  }

  function of(client) {
    const mesh = clients.get(client);
    if (!mesh) throw new Error(`no client '${client}' here`);
    return mesh;
  }

  const commands = {
    connect,
    async send({ client, to, text }) {
      const mesh = of(client);
      const id = to ? await mesh.sendDirectMessage(to, text) : await mesh.sendMessage(text);
      if (!id) throw new Error('the client did not take the message');
    },
    status({ client }) {
      const mesh = of(client);
      emit({
        event: 'status',
        client,
        connected: mesh.connected,
        discovered: mesh.getDiscoveredPeers().map((peer) => peer.peerId),
        peers: mesh.getConnectedPeerIds(),
      });
    },
    close({ client }) {
      of(client).disconnect();
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
