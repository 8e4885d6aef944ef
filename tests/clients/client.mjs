// Published PeerPigeon clients in Node, driven over stdin and stdout.

import { emit, serve } from './lines.mjs';
import { peers, withoutStun } from './peers.mjs';

const { default: wrtc } = await import('@koush/wrtc');
wrtc.RTCPeerConnection = withoutStun(wrtc.RTCPeerConnection);
const { PeerPigeonMesh } = await import('peerpigeon');

serve(peers(PeerPigeonMesh, emit));
emit({ event: 'ready', runtime: `node ${process.version}` });
