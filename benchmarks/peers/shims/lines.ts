// readLines of Deno's standard library, for machines that reach the npm registry only.
export async function* readLines(reader: { read(into: Uint8Array): Promise<number | null> }) {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(1 << 16);
  let pending: string[] = []; // of the line that has not ended: joined once, as lines may have many megabytes
  for (let size = await reader.read(buffer); size !== null; size = await reader.read(buffer)) {
    const [first, ...others] = decoder.decode(buffer.subarray(0, size), { stream: true }).split("\n");
    pending.push(first);
    for (const other of others) {
      yield pending.join("");
      pending = [other];
    }
  }
  const last = pending.join("");
  if (last) yield last;
}
