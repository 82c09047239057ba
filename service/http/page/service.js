// The service, asked. Every address is relative to the page's, which may stand under a proxy's prefix.

/** A refusal, or an error of the service: a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(document, retryAfterSeconds = null) {
    super(document.detail);
    this.document = document;
    this.retryAfterSeconds = document.retry_after_seconds ?? retryAfterSeconds;
  }
}

export const info = () => json("info");

/** Whether certificates can be signed here. */
export async function signs() {
  return (await json("v1/keys")).keys.length > 0;
}

/** The answer to `form`; onProgress gets each progress event. Raises Problem, or AbortError when `signal` says so. */
export async function certify(form, { key, signal, onProgress }) {
  const response = await post("v1/certify", form, { key, signal, accept: "text/event-stream" });
  for await (const { event, data } of events(response.body)) {
    if (event === "progress") onProgress(data);
    else if (event === "answer") return data;
    else if (event === "problem") throw new Problem(data);
  }
  throw broken("The answer ended before it was whole.");
}

/** The signed certificate of the answer to `form`, a Blob. */
export async function certificate(form, { key }) {
  const response = await post("v1/certify", form, { key, accept: "application/vnd.certify.certificate.v1+json" });
  return response.blob();
}

/** What the network sees: noisy and denoised pictures, counted nowhere. */
export async function preview(form, { key, signal }) {
  return (await post("v1/preview", form, { key, signal, accept: "application/json" })).json();
}

async function json(path) {
  return (await checked(path, { headers: { Accept: "application/json" } })).json();
}

function post(path, body, { key, signal, accept }) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  return checked(path, { method: "POST", body, headers, signal });
}

async function checked(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw broken("The service could not be reached, or it closed the connection.");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10);
  try {
    const document = await response.json();
    if (typeof document.code === "string") return new Problem(document, Number.isNaN(retryAfter) ? null : retryAfter);
  } catch {
    // Something between here and the service answered in its own way.
  }
  return broken(`Something answered with status ${response.status}, and not as this service does.`);
}

function broken(detail) {
  return new Problem({ code: "unreachable", title: "No answer", status: 0, detail });
}

/** The server-sent events of a body: {event, data}, data parsed as JSON. Comments are skipped. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof SyntaxError) throw error;
    throw broken("The connection broke before the answer was whole.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

function eventOf(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (name === "event") event = value;
    else if (name === "data") data.push(value);
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
