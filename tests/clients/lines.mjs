// One JSON object a line: commands on stdin, events on stdout. Everything that
// the published package prints itself goes to stderr.

import { createInterface } from 'node:readline';
import { Console } from 'node:console';

globalThis.console = new Console(process.stderr, process.stderr);

/** Tells the parent one thing. */
export function emit(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** Hands each command to `handle`; ends the process when stdin ends, so that no orphan outlives its parent. */
export function serve(handle, end = async () => {}) {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    let command = {};
    try {
      command = JSON.parse(line);
      await handle(command);
    } catch (error) {
      emit({ event: 'failed', client: command.client, cmd: command.cmd ?? line, text: String(error?.message ?? error) });
    }
  });
  lines.on('close', async () => {
    await end().catch(() => {});
    process.exit(0);
  });
  for (const fault of ['uncaughtException', 'unhandledRejection']) {
    process.on(fault, (error) => emit({ event: 'fault', text: String(error?.stack ?? error) }));
  }
}
