// Published PeerPigeon clients in Node, driven over stdin and stdout.

import { emit, serve } from './lines.mjs';
import { peers, homely } from './peers.mjs';

const { default: wrtc } = await import('@koush/wrtc');
wrtc.RTCPeerConnection = homely(wrtc.RTCPeerConnection);
const { PeerPigeonMesh } = await import('peerpigeon');

serve(peers(PeerPigeonMesh, emit));
emit({ event: 'ready', runtime: `node ${process.version}` });
