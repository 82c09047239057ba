// An answer while it comes: the radius that is proved, and what is seen and voted at each scale.
import { SMALL_SIDE } from "./form.js";
import { count, down, norm } from "./words.js";

// A progress event names the ten most voted classes. So many classes, and each has a bar of its own that stays in place;
// of more, those ahead are shown in turn.
const ALL_SHOWN = 10;
const AHEAD_SHOWN = 5;
// Speech: a line every few seconds can be listened to.
const SPOKEN_MS = 4000;

const at = (id) => document.getElementById(id);

export class Watch {
  begin(info, question) {
    this.info = info;
    this.target = targetRadius(info, question);
    this.last = null; // the last progress event
    this.spoken = performance.now();
    at("empty").hidden = true;
    at("reach").hidden = false;
    at("reach-title").textContent = "Proved so far";
    this.scales = new Map(question.sigmas.map((sigma) => [sigma, new Scale(sigma, info.bundle)]));
    at("scales").replaceChildren(...[...this.scales.values()].map((scale) => scale.element));
    this.#radius(0);
    this.#samples(0, question.samples);
    say("Asking.");
  }

  progress(event) {
    this.last = event;
    this.#radius(event.radius);
    this.#samples(event.samples, event.samples_limit);
    for (const level of event.levels) this.scales.get(level.sigma)?.votes(level);
    if (performance.now() - this.spoken > SPOKEN_MS) {
      this.spoken = performance.now();
      say(`${count(event.samples)} of ${count(event.samples_limit)} samples; radius ${down(event.radius, 3)} proved.`);
    }
  }

  preview({ levels }) {
    for (const level of levels) this.scales.get(level.sigma)?.draws(level.draws);
  }

  /** No more is coming: what each scale contributed. */
  end(answer) {
    at("reach-title").textContent = "Proved radius";
    this.#radius(answer.radius);
    // It ended early because it was decided: the bar is then of what was needed.
    this.#samples(answer.samples_used, answer.samples_used);
    for (const stage of answer.stages) this.scales.get(stage.sigma)?.outcome(stage);
    for (const scale of this.scales.values()) scale.done();
  }

  #radius(radius) {
    const wanted = Math.max(radius / 0.92, this.target ? 1.2 * this.target : 0.25);
    const most = this.target ? wanted : 0.25 * 2 ** Math.ceil(Math.log2(wanted / 0.25));
    at("reach-value").textContent = String(radius);
    at("reach-fill").style.width = `${(100 * radius) / most}%`;
    at("reach-mark").hidden = !this.target;
    if (this.target) at("reach-mark").style.left = `${(100 * this.target) / most}%`;
    at("reach-most").textContent = this.target
      ? `asked for: ${down(this.target, 6)}`
      : `${most} (${norm(this.info.defaults.norm === "l1" ? "l1" : "l2")})`;
  }

  #samples(samples, most) {
    at("progress").value = samples / most;
    at("progress-text").textContent = `${count(samples)} of ${count(most)} samples`;
  }
}

export function say(text) {
  at("status").textContent = text;
}

/** The radius asked for, in the norm in which radii are proved; null: none was. */
function targetRadius({ bundle, defaults }, { target, fields }) {
  if (!target) return null;
  const values = bundle.input_shape.reduce((product, side) => product * side, 1);
  return (fields.norm ?? defaults.norm) === "linf" ? target * Math.sqrt(values) : target;
}

class Scale {
  constructor(sigma, bundle) {
    this.sigma = sigma;
    this.bundle = bundle;
    this.rows = [];
    this.looks = make("div", "looks");
    this.looks.hidden = true;
    this.list = make("ul", "votes");
    if (bundle.classes.every((name) => name.length <= 2)) this.list.classList.add("short");
    this.note = make("p", "quiet");
    this.element = make("section", "scale card");
    const title = make("h3");
    title.textContent = `Noise σ = ${sigma}`;
    // Pictures come late, and last: nothing above them moves.
    this.element.append(title, this.note, this.list, this.looks);
    if (bundle.classes.length <= ALL_SHOWN) this.votes({ samples: 0, pilot_samples: 0, votes: [] });
    this.note.textContent = "Not looked at yet";
  }

  votes(level) {
    const total = level.samples + level.pilot_samples;
    this.seen = total > 0;
    const counts = new Map(level.votes.map((vote) => [vote.index, vote]));
    const shown =
      this.bundle.classes.length <= ALL_SHOWN
        ? this.bundle.classes.map((name, index) => counts.get(index) ?? { index, name, count: 0 })
        : level.votes.slice(0, AHEAD_SHOWN);
    const ahead = level.votes[0]?.index;
    shown.forEach((vote, place) => this.#row(place).show(vote, total, vote.index === ahead));
    this.note.textContent = `${count(total)} votes`;
  }

  #row(place) {
    if (!this.rows[place]) {
      this.rows[place] = new Row();
      this.list.append(this.rows[place].element);
    }
    return this.rows[place];
  }

  draws(draws) {
    this.looks.replaceChildren(
      ...draws.map(({ noisy, denoised }, draw) => {
        const pair = make("div", "draw");
        const said = `σ = ${this.sigma}, draw ${draw + 1}`;
        pair.append(this.#picture(noisy, "noisy", said));
        if (denoised === null) {
          pair.firstChild.className = "alone"; // a scale that is classified as it is
          return pair;
        }
        const arrow = make("span", "quiet");
        arrow.textContent = "→";
        arrow.setAttribute("aria-hidden", "true");
        pair.append(arrow, this.#picture(denoised, "denoised", said));
        return pair;
      }),
    );
    this.looks.hidden = false;
  }

  #picture(src, caption, said) {
    const figure = make("figure");
    const img = make("img", Math.max(...this.bundle.input_shape.slice(1)) <= SMALL_SIDE ? "small-pixels" : "");
    Object.assign(img, { src, alt: `The picture ${caption}, ${said}` });
    const text = make("figcaption");
    text.textContent = caption;
    figure.append(img, text);
    return figure;
  }

  outcome({ outcome, samples, pilot_samples: pilot, radius_bound: bound }) {
    const said = {
      path: `proves it, up to ${bound}`,
      passed: "does not object", // no other class reaches its threshold
      open: "cannot tell",
    }[outcome];
    this.note.textContent = `${count(samples + pilot)} votes: ${samples ? said : "a first look, and no more"}`;
    this.element.dataset.outcome = outcome;
    this.list.hidden = !this.seen; // an answer from memory comes without votes
  }

  done() {
    if (!this.element.dataset.outcome) this.note.textContent = "Was not needed";
  }
}

class Row {
  constructor() {
    this.element = make("li");
    this.label = make("span", "label");
    this.count = make("span", "count number");
    this.bar = make("span", "bar");
    this.bar.setAttribute("aria-hidden", "true");
    this.element.append(this.label, this.bar, this.count);
  }

  show(vote, total, ahead) {
    this.label.textContent = vote.name;
    this.label.title = vote.name;
    this.count.textContent = count(vote.count);
    this.bar.style.transform = `scaleX(${total ? vote.count / total : 0})`;
    this.element.classList.toggle("ahead", ahead);
  }
}

function make(tag, className = "") {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
