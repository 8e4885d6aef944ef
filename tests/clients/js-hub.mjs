// The published JavaScript hub: node js-hub.mjs PORT [BOOTSTRAP…]

import { emit, serve } from './lines.mjs';
import { homely } from './peers.mjs';

const { default: wrtc } = await import('@koush/wrtc');
wrtc.RTCPeerConnection = homely(wrtc.RTCPeerConnection);
const { PeerPigeonServer } = await import('peerpigeon');

const [port, ...bootstrapHubs] = process.argv.slice(2);
const hub = new PeerPigeonServer({ port: Number(port), host: '127.0.0.1', isHub: true, maxPortRetries: 0, bootstrapHubs });

const told = ['bootstrapConnected', 'bootstrapDisconnected', 'hubDiscovered', 'hubRegistered', 'hubUnregistered',
  'hubP2PConnected', 'hubP2PDisconnected', 'hubMeshReady', 'hubMeshMigrated', 'peerConnected', 'peerAnnounced',
  'peerDisconnected'];
for (const event of told) {
  hub.on(event, ({ peerId, hubPeerId, uri } = {}) => emit({ event, peer: peerId ?? hubPeerId, text: uri }));
}
hub.on('error', (error) => emit({ event: 'fault', text: String(error?.message ?? error) }));

serve(async ({ cmd }) => {
  if (cmd !== 'status') throw new Error(`no command '${cmd}'; there is status`);
  emit({ event: 'status', peer: hub.hubPeerId, hubs: [...hub.hubs.keys()], peers: [...hub.peerData.keys()] });
}, () => hub.stop());

// As the package's own server does.
process.on('SIGTERM', () => hub.stop().then(() => process.exit(0)));

// Bootstrapping comes after listening; a bootstrap that is away is retried, and is no failure to start.
hub.on('started', () => emit({ event: 'ready', peer: hub.hubPeerId, runtime: `node ${process.version}` }));
await hub.start();
