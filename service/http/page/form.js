// The question: a picture and its fields, and an error beside the field that it concerns.
import { count, down, norm, size } from "./words.js";

const FIELDS = ["radius", "samples", "norm", "alpha", "deadline_ms"];
// Of problems that name no field of this form, or another than the one to mend.
const FIELD_OF_CODE = { unauthorized: "key", body_too_large: "image", deadline_exceeded: "deadline_ms" };
// Pictures up to this side are shown with their pixels as squares.
export const SMALL_SIDE = 64;

const at = (id) => document.getElementById(id);

export class Form {
  constructor() {
    this.info = null;
    this.picture = null; // {file, name, example}: a Blob, and where it can be had again
    this.form = at("ask");
    for (const goal of this.form.elements.goal) goal.addEventListener("change", () => this.#goalChanged());
    this.form.addEventListener("input", (event) => this.#clear(event.target.closest("[data-field]")));
    at("norm").addEventListener("change", () => this.#normChanged());
    at("image").addEventListener("change", () => this.choose(at("image").files[0]));
    at("chosen").addEventListener("load", () => this.#measured());
    at("chosen").addEventListener("error", () => (at("chosen").hidden = true));
  }

  /** What is served: defaults, limits, scales and norms. */
  serve(info) {
    this.info = info;
    const { bundle, defaults, limits } = info;
    at("samples").value ||= String(defaults.samples);
    at("alpha").value ||= String(defaults.alpha);
    at("alpha").closest(".field").hidden = defaults.method === "deterministic";
    at("samples-help").textContent = `${count(limits.min_samples)} to ${count(limits.max_samples)}. More prove more, and take longer.`;
    at("image-help").textContent = `PNG, JPEG or WebP, ${size(bundle.input_shape)} pixels`;
    at("norm").replaceChildren(
      ...bundle.norms.map((name) => new Option(norm(name), name, name === defaults.norm, name === defaults.norm)),
    );
    at("norm").closest(".field").hidden = bundle.norms.length < 2;
    this.#normChanged();
    at("sigmas").replaceChildren(...bundle.sigmas.map(scaleBox));
    at("sigmas").closest(".field").hidden = bundle.sigmas.length < 2;
  }

  /** Take a picture. example: the address that it is from, if it is the service's. */
  choose(file, example = null) {
    if (!file) return;
    this.picture = { file, name: file.name || "picture.png", example };
    this.#clear(document.querySelector("[data-field=image]"));
    URL.revokeObjectURL(at("chosen").src);
    at("chosen").src = URL.createObjectURL(file);
    at("chosen").hidden = false;
    at("drop-text").textContent = `${this.picture.name}: choose or drop another`;
    at("resize-field").hidden = true;
    at("resize").checked = false;
  }

  #measured() {
    const { naturalWidth: width, naturalHeight: height } = at("chosen");
    at("chosen").classList.toggle("small-pixels", Math.max(width, height) <= SMALL_SIDE);
    at("chosen").alt = `Your picture, ${width} × ${height} pixels`;
    if (!this.info) return;
    const [, wantedHeight, wantedWidth] = this.info.bundle.input_shape;
    if (width === wantedWidth && height === wantedHeight) return;
    at("resize-label").textContent = `Resize it from ${width} × ${height} to ${size(this.info.bundle.input_shape)} pixels`;
    at("resize-field").hidden = false;
    at("resize").checked = true;
  }

  #normChanged() {
    const { defaults, limits } = this.info;
    const chosen = at("norm").value;
    const most = chosen === defaults.norm ? `; at most ${down(limits.max_radius, 3)}` : "";
    at("radius-help").textContent = `In ${norm(chosen)}, pixels from 0 to 1${most}.`;
  }

  #goalChanged() {
    at("radius-field").hidden = this.form.elements.goal.value !== "radius";
    if (!at("radius-field").hidden) at("radius").focus();
  }

  /** {fields, form, samples, maxSamples, sigmas, target}: what differs from the defaults, and as a form to send. Null,
  and an error at its field, where the service need not be asked. */
  question() {
    this.clear();
    const { defaults, limits, bundle } = this.info;
    const fields = {};
    for (const name of FIELDS) {
      const input = at(name);
      const value = input.value.trim();
      if (value && value !== String(defaults[name] ?? "") && !input.closest("[hidden]")) fields[name] = value;
    }
    const sigmas = [...document.querySelectorAll("#sigmas input:checked")].map((box) => Number(box.value));
    if (!sigmas.length) return this.#refuse("sigmas", "Choose one scale or more.");
    if (sigmas.length < bundle.sigmas.length) fields.sigmas = sigmas;
    if (at("resize").checked) fields.resize = "true";
    const file = this.picture?.file;
    // Sent all the same, it would be cut off in the middle, and a browser reads no answer then.
    if (file && file.size >= limits.max_body_bytes)
      return this.#refuse("image", `The file is too large: at most ${limits.max_body_bytes} bytes, it has ${file.size}.`);
    const form = new FormData();
    if (file) form.append("image", file, this.picture.name);
    for (const [name, value] of Object.entries(fields)) form.append(name, [value].flat().join(","));
    const target = Number(fields.radius) || null;
    return { fields, form, sigmas, target, samples: Number(at("samples").value) || defaults.samples, maxSamples: limits.max_samples };
  }

  get key() {
    return at("key").value.trim();
  }

  /** Show a problem at its field. False: it concerns none. */
  show(problem) {
    const { code, title, detail, field } = problem.document;
    const name = FIELD_OF_CODE[code] ?? field;
    if (!name) return false;
    const said = `${title}: ${name === field ? detail.replace(`${field}: `, "") : detail}`;
    if (!document.querySelector(`[data-field="${CSS.escape(name)}"]`)) {
      at("form-error").textContent = `${name}: ${said}`;
      at("form-error").hidden = false;
      return true;
    }
    this.#refuse(name, said, hint(problem.document));
    return true;
  }

  #refuse(name, text, offer = null) {
    const field = document.querySelector(`[data-field="${name}"]`);
    if (field.closest("details")) field.closest("details").open = true;
    field.hidden = false;
    const error = at(`${name}-error`);
    error.textContent = text;
    if (offer) error.append(button(offer.say, () => this.set(offer.set)));
    error.hidden = false;
    const input = field.querySelector("input, select");
    input.setAttribute("aria-invalid", "true");
    field.querySelector(".drop")?.setAttribute("data-invalid", "");
    input.focus();
    return null;
  }

  /** Fill in what a suggestion says. */
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      if (name === "goal") {
        this.form.elements.goal.value = value;
        this.#goalChanged();
      } else if (name === "sigmas") {
        for (const box of document.querySelectorAll("#sigmas input")) box.checked = value.includes(Number(box.value));
      } else if (name === "resize") {
        at("resize-field").hidden = false;
        at("resize").checked = value;
      } else {
        at(name).value = value;
      }
      const field = document.querySelector(`[data-field="${name}"]`);
      this.#clear(field);
      field?.querySelector("input, select").focus();
    }
  }

  clear() {
    for (const field of document.querySelectorAll("[data-field]")) this.#clear(field);
    at("form-error").hidden = true;
  }

  #clear(field) {
    if (!field) return;
    field.querySelector(".error").hidden = true;
    for (const input of field.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    field.querySelector(".drop")?.removeAttribute("data-invalid");
  }
}

/** What the problem itself proposes, for one press of a button. */
function hint({ code, min_samples, max_samples, max_radius, expected_width }) {
  if (min_samples !== undefined) return { say: `Take ${min_samples} samples`, set: { samples: String(min_samples) } };
  if (code === "radius_unreachable") return { say: `Take radius ${max_radius}`, set: { radius: String(max_radius) } };
  if (max_samples !== undefined) return { say: `Take ${max_samples} samples`, set: { samples: String(max_samples) } };
  return expected_width === undefined ? null : { say: "Resize it", set: { resize: true } };
}

export function button(text, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", onClick);
  return made;
}

function scaleBox(sigma) {
  const label = document.createElement("label");
  label.className = "check";
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", value: String(sigma), checked: true });
  label.append(box, String(sigma));
  return label;
}
