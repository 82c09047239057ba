// An answer in words, and the lines that repeat it. Nothing here touches the page.

const PLAIN = /^[\w.-]+$/;
const NORMS = { l2: "L2", l1: "L1", linf: "L∞" };

/** "a 3", "an airplane". */
export function withArticle(name) {
  const vowel = /^(8|11\b|18\b|[aeio]|u(?!ni|s|k))/i.test(name) && !/^(eu|one\b|once)/i.test(name);
  return `${vowel ? "an" : "a"} ${name}`;
}

export const norm = (name) => NORMS[name] ?? name;
export const count = (number) => Math.round(number).toLocaleString("en");

/** Rounded down, as radii are. */
export function down(number, digits) {
  // A float's own digits can end in ...9999: a billionth of the last digit is not what is rounded away.
  return (Math.floor(number * 10 ** digits + 1e-6) / 10 ** digits).toString();
}

/** {title, text, facts, next}: what was proved or why nothing was, and what to do then.

next: null, or {text, steps}; a step is {say, set}, with fields of the form to set. */
export function verdict(answer, question) {
  const parts = answer.outcome === "abstained" ? abstention(answer, question) : proof(answer, question);
  return { ...parts, facts: facts(answer) };
}

/** What stands of an answer that was stopped. progress: its last event, or null. */
export function stopped(progress) {
  const text =
    progress?.label == null
      ? "Nothing was proved by then."
      : `What was proved by then stands: ${lower(sentence(progress.radius, "", progress.label.name))}`;
  return { title: "Stopped", text, facts: [], next: null };
}

function sentence(radius, measure, label) {
  return `Any change of at most ${radius}${measure} leaves it ${withArticle(label)}.`;
}

function proof(answer, question) {
  const inEach = answer.norm === "linf" && answer.radius_linf !== null;
  const radius = inEach ? answer.radius_linf : answer.radius;
  const title = sentence(radius, inEach ? " in each value" : "", answer.label.name);
  if (answer.outcome === "certified") {
    const asked = answer.requested_radius === null ? "" : ` You asked for ${answer.requested_radius}.`;
    return { title, text: `Proved, whoever chooses the change.${asked}`, next: null };
  }
  return {
    title,
    text: `That much is proved, but not the ${answer.requested_radius} that you asked for.`,
    next: {
      text: "More samples may reach it, if the votes allow it at all. Or ask for as much as can be proved.",
      steps: [moreSamples(question), { say: "As much as can be proved", set: { goal: "far" } }].filter(Boolean),
    },
  };
}

function abstention(answer, question) {
  const plain = answer.uncertified_label.name;
  const title = "Nothing is proved about this picture.";
  const more = moreSamples(question);
  switch (answer.abstain_reason) {
    case "deadline":
      return {
        title,
        text: "The time was over before the votes could tell.",
        next: {
          text: "Give it more time, or none to keep.",
          steps: [{ say: "Without a time limit", set: { deadline_ms: "" } }],
        },
      };
    case "rival_at_larger_sigma": {
      const finest = question.sigmas.length > 1 ? question.sigmas.slice(0, 1) : null;
      return {
        title,
        text: `Under weak noise the votes agree, but under stronger noise most go to another class, and the proof would need both. The plain classifier says ${plain}, without any guarantee.`,
        next: {
          text: "Leave the stronger noise out: the radius that can be proved is then smaller.",
          steps: finest ? [{ say: `Only noise ${finest[0]}`, set: { sigmas: finest } }] : [],
        },
      };
    }
    case "no_stage_confident":
      return {
        title,
        text: `Under noise no class is clearly ahead, and it could not have become so within these samples. The plain classifier says ${plain}, without any guarantee.`,
        next: {
          text: `${more ? "More samples may tell. Or try" : "Try"} a clearer picture, of a kind that this bundle was trained on.`,
          steps: [more].filter(Boolean),
        },
      };
    default:
      return {
        title,
        text: `These samples cannot tell: the votes are too close. The plain classifier says ${plain}, without any guarantee.`,
        next: { text: more ? "More samples can tell closer votes apart." : "There are no more samples to ask for.", steps: [more].filter(Boolean) },
      };
  }
}

function moreSamples(question) {
  const samples = Math.min(4 * question.samples, question.maxSamples);
  return samples > question.samples ? { say: `With ${count(samples)} samples`, set: { samples: String(samples) } } : null;
}

function facts(answer) {
  const list = [];
  if (answer.outcome !== "abstained") {
    list.push(example(answer));
    list.push(
      answer.method === "deterministic"
        ? "Nothing was left to chance: every sample was counted."
        : `Wrong with a probability of at most ${percent(answer.alpha)}, over the noise that was drawn.`,
    );
    list.push("It is the vote under noise that stays. Stable is not the same as right.");
    if (answer.uncertified_label.index !== answer.label.index)
      list.push(`Without noise the classifier says ${answer.uncertified_label.name}; nothing is proved about that.`);
  }
  if (answer.input.resized) list.push(`This is about the picture as it was resized, ${size(answer.input.shape)} pixels.`);
  if (answer.input.turned) list.push("The picture was turned as its camera noted.");
  const cached = answer.timing.cached ? ", from memory" : "";
  const scale = answer.sigma === null ? "" : `, noise σ = ${answer.sigma}`;
  list.push(`${count(answer.samples_used)} samples${scale}, ${seconds(answer.timing.total_seconds)}${cached}.`);
  return list;
}

/** The radius in grey steps: an L2 radius r allows r on one value, and r / sqrt(D) on all D of them at once. */
function example(answer) {
  const values = answer.input.shape.reduce((product, side) => product * side, 1);
  const all = answer.radius_linf ?? answer.radius / values;
  const one = Math.min(255, Math.floor(answer.radius * 255 + 1e-6));
  const what = answer.input.shape[0] === 1 ? "pixel" : "colour value of a pixel";
  return `For example: one ${what} by ${one} of 255 steps, or all of them at once by ${down(all * 255, 1)}. (${norm(answer.radius_norm)} radius ${answer.radius}, pixels from 0 to 1.)`;
}

export const size = ([, height, width]) => `${width} × ${height}`;
const percent = (part) => `${Number((100 * part).toPrecision(6))}%`;
const seconds = (number) => `${number < 10 ? number.toFixed(2) : count(number)} s`;
const lower = (text) => text[0].toLowerCase() + text.slice(1);

/** The shell's line that asks the same. fields: name -> text or list; file: its name; example: where it is from. */
export function curlLine({ url, file, fields, key, example }) {
  const parts = ["curl"];
  if (key) parts.push('-H "Authorization: Bearer $CERTIFY_KEY"');
  // curl's own quotes: a comma or semicolon would end the name.
  const name = PLAIN.test(file) ? file : `"${file.replaceAll(/["\\]/g, "\\$&")}"`;
  parts.push(`-F ${quoted(`image=@${name}`)}`);
  for (const [field, value] of Object.entries(fields)) parts.push(`-F ${quoted(`${field}=${[value].flat().join(",")}`)}`);
  parts.push(quoted(`${url}v1/certify`));
  const fetched = example ? `curl -s -o ${quoted(file)} ${quoted(example)}\n` : "";
  return fetched + parts.join(" \\\n  ");
}

/** The same in Python, with certify's own client. */
export function pythonLines({ url, file, fields, key, example }) {
  const given = Object.entries(fields).map(([name, value]) => `, ${name}=${literal(name, value)}`);
  return [
    ...(key ? ["import os"] : []),
    "from pathlib import Path",
    ...(example ? ["from urllib.request import urlretrieve"] : []),
    "",
    "from certify import Client",
    "",
    ...(example ? [`urlretrieve(${JSON.stringify(example)}, ${JSON.stringify(file)})`] : []),
    `with Client(${JSON.stringify(url)}${key ? ', key=os.environ["CERTIFY_KEY"]' : ""}) as client:`,
    `    answer = client.certify(Path(${JSON.stringify(file)})${given.join("")})`,
    "print(answer.outcome, answer.label, answer.radius)",
  ].join("\n");
}

function literal(name, value) {
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  if (name === "resize") return "True";
  return name === "norm" ? JSON.stringify(value) : value;
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
