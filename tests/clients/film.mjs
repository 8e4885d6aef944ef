// A video call, as an application makes one with the package's own media. In pages alone: the package has no camera in Node.

/** Shows what comes from others, and returns when frames of whom were shown, in ms since 1970. */
export function watch(mesh) {
  const frames = new Map();
  mesh.addEventListener('remoteStream', ({ peerId, stream }) => {
    if (!frames.has(peerId)) frames.set(peerId, []);
    const video = document.createElement('video');
    // Small, so that all are in view: Chromium pauses a muted one that is not.
    Object.assign(video, { muted: true, autoplay: true, playsInline: true, width: 160, srcObject: stream });
    document.body.append(video);
    const shown = () => {
      frames.get(peerId).push(Date.now());
      video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
  });
  return frames;
}

/** Lets the others' video in, and sends its own to all that it is connected to: in this order, as the package's example does. */
export async function film(mesh) {
  await mesh.initializeMedia();
  for (const connection of mesh.connectionManager.getAllConnections()) connection.allowRemoteStreamEmission();
  await mesh.startMedia({ video: true });
}
