// The page's words: node --test words.test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";
import { events } from "../../../service/http/page/service.js";
import { curlLine, down, pythonLines, stopped, verdict, withArticle } from "../../../service/http/page/words.js";

const QUESTION = { samples: 10_000, maxSamples: 100_000, sigmas: [0.25, 0.5, 1] };
const ANSWER = {
  outcome: "certified",
  abstain_reason: null,
  label: { index: 3, name: "3" },
  sigma: 0.5,
  radius: 0.542185,
  radius_norm: "l2",
  radius_linf: 0.067773,
  requested_radius: null,
  norm: "l2",
  method: "sampled",
  uncertified_label: { index: 3, name: "3" },
  alpha: 0.001,
  samples_used: 1984,
  input: { shape: [1, 8, 8], resized: false, turned: false },
  timing: { total_seconds: 0.41, sampling_seconds: 0.38 },
};
const ABSTAINED = { ...ANSWER, outcome: "abstained", label: null, sigma: null, radius: 0, radius_linf: 0 };

test("a certificate is one sentence, never more than was proved", () => {
  const { title, facts, next } = verdict(ANSWER, QUESTION);
  assert.equal(title, "Any change of at most 0.542185 leaves it a 3.");
  assert.equal(next, null);
  // 0.542185 * 255 = 138.26, 0.067773 * 255 = 17.28
  assert.match(facts[0], /^For example: one pixel by 138 of 255 steps, or all of them at once by 17.2\./);
  assert.match(facts[1], /at most 0\.1%/);
  assert.match(facts.at(-1), /^1,984 samples, noise σ = 0.5, 0.41 s\.$/);
});

test("a radius in Linf is said of each value, one in L1 of the sum", () => {
  const linf = verdict({ ...ANSWER, norm: "linf", requested_radius: 0.05 }, QUESTION);
  assert.equal(linf.title, "Any change of at most 0.067773 in each value leaves it a 3.");
  assert.match(linf.text, /asked for 0.05/);
  const l1 = { ...ANSWER, radius_norm: "l1", norm: "l1", radius: 2, radius_linf: null, method: "deterministic", alpha: 0 };
  const { facts } = verdict(l1, QUESTION);
  // one pixel by 2 * 255, which there is not; 64 pixels by 2 / 64 * 255 = 7.97
  assert.match(facts[0], /one pixel by 255 of 255 steps, or all of them at once by 7.9\. \(L1 radius 2,/);
  assert.match(facts[1], /^Nothing was left to chance/);
});

test("colours, a resized picture and another plain answer are named", () => {
  const input = { shape: [3, 32, 32], resized: true, turned: true };
  const { facts } = verdict({ ...ANSWER, input, uncertified_label: { index: 8, name: "8" } }, QUESTION);
  assert.match(facts.join("\n"), /one colour value of a pixel/);
  assert.match(facts.join("\n"), /resized, 32 × 32 pixels/);
  assert.match(facts.join("\n"), /turned as its camera noted/);
  assert.match(facts.join("\n"), /Without noise the classifier says 8;/);
});

test("a radius that was not reached is said, and what to do", () => {
  const answer = { ...ANSWER, outcome: "below_radius", requested_radius: 1 };
  const { title, text, next } = verdict(answer, QUESTION);
  assert.equal(title, "Any change of at most 0.542185 leaves it a 3.");
  assert.match(text, /not the 1 that you asked for/);
  assert.deepEqual(next.steps.map((step) => step.set), [{ samples: "40000" }, { goal: "far" }]);
});

test("each abstention has a reason in words and a next step that is there", () => {
  const steps = {
    deadline: [{ deadline_ms: "" }],
    rival_at_larger_sigma: [{ sigmas: [0.25] }],
    no_stage_confident: [{ samples: "40000" }],
    undecided: [{ samples: "40000" }],
    a_reason_that_comes_later: [{ samples: "40000" }],
  };
  const texts = new Set();
  for (const [reason, expected] of Object.entries(steps)) {
    const { title, text, next } = verdict({ ...ABSTAINED, abstain_reason: reason }, QUESTION);
    assert.equal(title, "Nothing is proved about this picture.");
    texts.add(text);
    assert.ok(next.text.length > 10);
    assert.deepEqual(next.steps.map((step) => step.set), expected);
  }
  assert.equal(texts.size, 4);
  const all = { samples: 100_000, maxSamples: 100_000, sigmas: [1] };
  assert.deepEqual(verdict({ ...ABSTAINED, abstain_reason: "undecided" }, all).next.steps, []);
  assert.match(verdict({ ...ABSTAINED, abstain_reason: "no_stage_confident" }, all).next.text, /^Try a clearer/);
  assert.deepEqual(verdict({ ...ABSTAINED, abstain_reason: "rival_at_larger_sigma" }, all).next.steps, []);
});

test("what was proved before a stop stands", () => {
  assert.match(stopped(null).text, /^Nothing was proved/);
  assert.match(stopped({ label: null, radius: 0 }).text, /^Nothing was proved/);
  const text = stopped({ label: { index: 8, name: "8" }, radius: 0.31 }).text;
  assert.equal(text, "What was proved by then stands: any change of at most 0.31 leaves it an 8.");
});

test("numbers are rounded down, articles are heard", () => {
  assert.equal(down(0.3, 1), "0.3"); // 0.3 * 10 is 3.0000000000000004 or 2.99..., by the digits
  assert.equal(down(0.57, 2), "0.57");
  assert.equal(down(1.299999, 1), "1.2");
  const names = ["3", "8", "11", "80", "1", "airplane", "Ankle boot", "dog", "unicycle", "umbrella"];
  const said = ["a", "an", "an", "an", "a", "an", "an", "a", "a", "an"];
  assert.deepEqual(names.map(withArticle), names.map((name, i) => `${said[i]} ${name}`));
});

test("names of files stay one word of the shell, and keys stay out", () => {
  const asked = { url: "http://h/x/", fields: { radius: "0.3", sigmas: [0.25, 0.5] }, example: null };
  assert.equal(
    curlLine({ ...asked, file: "3.png", key: false }),
    "curl \\\n  -F image=@3.png \\\n  -F radius=0.3 \\\n  -F sigmas=0.25,0.5 \\\n  http://h/x/v1/certify",
  );
  const hostile = curlLine({ ...asked, file: `a'; "b;type=x`, key: true, fields: {} });
  assert.equal(
    hostile,
    `curl \\\n  -H "Authorization: Bearer $CERTIFY_KEY" \\\n  -F 'image=@"a'\\''; \\"b;type=x"' \\\n  http://h/x/v1/certify`,
  );
  const python = pythonLines({ url: "http://h/x", file: 'a"b.png', key: true, fields: { ...asked.fields, resize: "true", norm: "linf" } });
  assert.match(python, /Client\("http:\/\/h\/x", key=os\.environ\["CERTIFY_KEY"\]\)/);
  assert.ok(!python.includes("urlretrieve"));
  const fetched = { ...asked, file: "digit.png", key: false, example: "http://h/x/page/digit.png" };
  assert.match(curlLine(fetched), /^curl -s -o digit.png http:\/\/h\/x\/page\/digit.png\ncurl \\\n  -F image=@digit.png/);
  assert.match(pythonLines(fetched), /^urlretrieve\("http:\/\/h\/x\/page\/digit.png", "digit.png"\)$/m);
  assert.match(python, /Path\("a\\"b.png"\), radius=0.3, sigmas=\[0.25, 0.5\], resize=True, norm="linf"\)/);
});

test("events are read however they are cut, and comments are no events", async () => {
  const text = 'event: progress\r\ndata: {"a":1}\r\n\r\n: still there\n\nevent: answer\ndata: {"b":\ndata: "ä"}\n\n';
  const bytes = new TextEncoder().encode(text);
  const body = new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const read = [];
  for await (const event of events(body)) read.push(event);
  assert.deepEqual(read, [
    { event: "progress", data: { a: 1 } },
    { event: "answer", data: { b: "ä" } },
  ]);
});
