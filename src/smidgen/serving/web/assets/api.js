// The server: which models it has, and what they answer.

const KEY = "smidgen.key";

/** Something the server refused or could not do. `kind`: gone, missing, key, busy, refused or failed. */
export class Fault extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

const KINDS = { 401: "key", 403: "key", 404: "missing", 503: "busy" };

/** Keep the key for this tab; an empty one forgets it. */
export function useKey(key) {
  if (/[^\x21-\x7e]/.test(key)) throw new Fault("key", "A key has only letters, digits and signs without spaces.");
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/**
 * Extract fields from a document.
 *
 * @param {object} body What /v1/extract takes.
 * @param {AbortSignal} signal Stops it.
 * @returns {Promise<object>} The extraction.
 */
export async function extract(body, signal) {
  return reachable((await request("v1/extract", body, signal)).json(), signal);
}

/** Return the names of the models that write, the one stored last first. */
export async function modelNames() {
  const { models } = await (await request("api/tags")).json();
  return models.filter((model) => model.capabilities?.includes("completion") ?? true).map((model) => model.name);
}

/**
 * Ask a model and pass on each piece of its answer.
 *
 * @param {object} body What /api/chat takes.
 * @param {AbortSignal} signal Stops the answer.
 * @param {(piece: object) => void} each Told each line of the stream.
 * @returns {Promise<object>} The last line, with the figures.
 */
export async function chat(body, signal, each) {
  const answer = await request("api/chat", body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    const { done, value } = await reachable(reader.read(), signal);
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const piece = JSON.parse(line);
      if (piece.error) throw new Fault("failed", piece.error);
      each(piece);
      if (piece.done) last = piece;
    }
  }
  if (!last) throw new Fault("gone", "The server broke off in the middle of the answer.");
  return last;
}

async function request(path, body, signal) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const asked = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  const answer = await reachable(fetch(path, asked), signal);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Fault(KINDS[answer.status] ?? "refused", told.error?.message ?? told.error ?? `The server answered ${answer.status}.`);
}

/** Await what goes over the network, and tell a stop from a server that is gone. */
async function reachable(promise, signal) {
  try {
    return await promise;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Fault("gone", "The server does not answer.");
  }
}
