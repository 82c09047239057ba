// The page: what is served, what is asked, what is answered.
import { Form, button } from "./form.js";
import * as service from "./service.js";
import { Watch, say } from "./watch.js";
import { curlLine, pythonLines, size, stopped, verdict } from "./words.js";

// Where something stands between the service and us that names no time.
const RETRY_SECONDS = 5;
const FIRST_NAMES = 4;
// One draw is chance; of two one sees what stays.
const DRAWS = "2";

const at = (id) => document.getElementById(id);
const base = new URL(".", document.baseURI).href;
const form = new Form();
const watch = new Watch();
let info = null;
let previews = true; // until the service says that it has none
let signs = false;
let running = null; // what stops the request under way

async function start() {
  for (;;) {
    try {
      info = await service.info();
      break;
    } catch (problem) {
      at("served").textContent = problem.document?.detail ?? String(problem);
      await new Promise((done) => setTimeout(done, 1000 * (problem.retryAfterSeconds ?? RETRY_SECONDS)));
    }
  }
  const { bundle, backend } = info;
  const names = bundle.classes.slice(0, FIRST_NAMES).join(", ") + (bundle.classes.length > FIRST_NAMES ? ", …" : "");
  const random = backend.kind === "fake" ? "; random votes, for tests alone" : "";
  at("served").textContent = `${bundle.name}: ${bundle.classes.length} classes (${names}), ${size(bundle.input_shape)} pixels${random}`;
  form.serve(info);
  at("example").hidden = !takesDigits(bundle);
  at("submit").disabled = false;
  service.signs().then((answer) => (signs = answer)).catch(() => {});
}

/** Whether the example, an 8 x 8 digit, is such a picture as the bundle knows. */
function takesDigits({ classes, input_shape: shape }) {
  return shape.join() === "1,8,8" && classes.join() === "0,1,2,3,4,5,6,7,8,9";
}

async function takeExample() {
  const url = new URL("page/digit.png", base).href;
  const response = await fetch(url);
  form.choose(new File([await response.blob()], "digit.png", { type: "image/png" }), url);
}

async function ask() {
  if (running || !info) return;
  const question = form.question();
  if (!question) return;
  const key = form.key;
  running = new AbortController();
  const { signal } = running;
  busy(true);
  watch.begin(info, question);
  let looked = false;
  // Only once the request has its place: a client that may hold one at a time would lose it to the preview.
  const look = () => {
    if (!looked) showDraws(question, key);
    looked = true;
  };
  try {
    const answer = await service.certify(question.form, {
      key,
      signal,
      onProgress(event) {
        watch.progress(event);
        look();
      },
    });
    watch.end(answer);
    show(verdict(answer, question), answer.outcome);
    repeat(question, key, answer);
    look();
  } catch (error) {
    if (error.name === "AbortError") show(stopped(watch.last), "stopped");
    else fail(error);
  } finally {
    busy(false);
    running = null;
  }
}

async function showDraws(question, key) {
  if (!previews) return;
  const asked = new FormData();
  asked.append("draws", DRAWS);
  for (const name of ["image", "resize", "sigmas"]) if (question.form.has(name)) asked.append(name, question.form.get(name));
  const scales = watch.scales;
  try {
    const preview = await service.preview(asked, { key });
    if (watch.scales === scales) watch.preview(preview); // else another question has come
  } catch (problem) {
    // Votes only, as from Triton: there is none to see. Whatever else went wrong, the certificate needs no preview.
    if (problem.document?.code === "preview_unavailable") previews = false;
  }
}

function busy(is) {
  at("submit").setAttribute("aria-disabled", String(is));
  at("submit").textContent = is ? "Certifying…" : "Certify";
  if (!is && document.activeElement === at("stop")) at("submit").focus();
  at("stop").hidden = !is;
  if (!is) return;
  for (const id of ["verdict", "repeat"]) at(id).hidden = true;
  // On a phone the answer is below the form.
  if (at("reach").getBoundingClientRect().top > window.innerHeight - 80)
    requestAnimationFrame(() => at("answer").scrollIntoView({ behavior: calm() ? "auto" : "smooth" }));
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function show({ title, text, facts = [], next = null }, outcome) {
  at("verdict").dataset.outcome = outcome;
  at("verdict").hidden = false;
  at("verdict-title").textContent = title;
  at("verdict-text").textContent = text;
  at("verdict-facts").replaceChildren(...facts.map(item));
  at("verdict-facts").hidden = !facts.length;
  at("next").textContent = next?.text ?? "";
  at("next").hidden = !next;
  const steps = next?.steps ?? [];
  at("next-step").replaceChildren(...steps.map(({ say, set }) => button(say, () => (form.set(set ?? {}), ask()))));
  say([title, text, next?.text].filter(Boolean).join(" "));
}

function item(text) {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}

function fail(error) {
  if (!(error instanceof service.Problem)) throw error;
  if (!watch.last) nothingSeen();
  if (form.show(error)) {
    say(error.document.title);
    return;
  }
  const wait = error.retryAfterSeconds;
  const text = wait === null ? "Ask again later." : `It asks for ${wait} s of patience.`;
  const again = { text, steps: [{ say: "Ask again" }] };
  show({ title: error.document.title, text: error.document.detail, next: again }, "problem");
}

/** Back to the beginning: there is no answer, and none is on its way. */
function nothingSeen() {
  at("reach").hidden = true;
  at("scales").replaceChildren();
  at("empty").hidden = false;
}

function repeat(question, key, answer) {
  const { name, example } = form.picture;
  const said = { url: base, file: name, fields: question.fields, key: Boolean(key), example };
  at("curl").textContent = curlLine(said);
  at("python").textContent = pythonLines({ ...said, url: base.replace(/\/$/, "") });
  at("repeat-text").textContent =
    info.seed_key === "configured"
      ? "The same question gets the same answer, to the last digit."
      : "The same question gets the same answer to the last digit, until this service restarts: it has no seed key.";
  download(at("save"), JSON.stringify(answer, null, 2), `${stem(name)}.answer.json`);
  at("certificate").hidden = !signs;
  at("certificate").onclick = () => certificate(question, key, name);
  for (const id of ["certificate-text", "certificate-error"]) at(id).hidden = true;
  at("repeat").hidden = false;
}

async function certificate(question, key, name) {
  at("certificate-error").hidden = true;
  try {
    const link = document.createElement("a");
    const file = `${stem(name)}.certificate.json`;
    download(link, await service.certificate(question.form, { key }), file);
    link.textContent = file;
    const check = document.createElement("code");
    check.textContent = `certify verify ${file} --key keys.json`;
    const keys = document.createElement("a");
    Object.assign(keys, { href: "v1/keys", download: "keys.json", textContent: "keys" });
    at("certificate-text").replaceChildren(link, ": anybody can check it with this service's ", keys, ": ", check);
    at("certificate-text").hidden = false;
    link.click();
    say(`The signed certificate is saved as ${file}.`);
  } catch (error) {
    if (!(error instanceof service.Problem)) throw error;
    at("certificate-error").textContent = `${error.document.title}: ${error.document.detail}`;
    at("certificate-error").hidden = false;
  }
}

function download(link, content, name) {
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = name;
}

const stem = (name) => name.replace(/\.[^.]*$/, "");

async function copy(event) {
  const pressed = event.currentTarget;
  try {
    await navigator.clipboard.writeText(at(pressed.dataset.copy).textContent);
    say("Copied.");
  } catch {
    // Without a secure context there is no clipboard: mark the text, and the reader's own keys copy it.
    getSelection().selectAllChildren(at(pressed.dataset.copy));
    say("Marked: copy it with your keyboard.");
  }
}

function takeDrop(event) {
  const { files } = event.dataTransfer ?? event.clipboardData;
  if (!files.length) return;
  event.preventDefault();
  form.choose(files[0]);
}

at("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
at("stop").addEventListener("click", () => running?.abort());
at("example").addEventListener("click", takeExample);
for (const pressed of document.querySelectorAll("[data-copy]")) pressed.addEventListener("click", copy);
// Anywhere on the page: a picture dropped beside the frame would otherwise replace the page.
addEventListener("dragover", (event) => (event.preventDefault(), at("drop").toggleAttribute("data-over", true)));
addEventListener("dragleave", () => at("drop").removeAttribute("data-over"));
addEventListener("drop", (event) => (at("drop").removeAttribute("data-over"), event.preventDefault(), takeDrop(event)));
addEventListener("paste", takeDrop);
start();
