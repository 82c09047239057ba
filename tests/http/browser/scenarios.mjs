// What people do with the page, in a real Chromium: node scenarios.mjs SETTINGS. It prints a list with {name, error, facts}
// of each scenario. The Python test that starts it has the servers.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tryItOut } from "./docs.mjs";
import { PHONE, TALL, answerOf, drop, launch, noteRadii, onPage, sticksOut, verdict } from "./browser.mjs";

const { chromium, urls, digit, photo, shots, downloads, key } = JSON.parse(process.argv[2]);
const bytes = await readFile(digit);
const browser = await launch(chromium);
const shown = (page) => page.locator("#operations-default-certify").waitFor();
const at = (url, options, scenario) => () => onPage(browser, url, options, scenario);

async function certifyDigit(page) {
  await drop(page, "#drop", "3.png", bytes);
  await page.fill("#samples", "2000"); // a fifth of the work
  await page.click("#submit");
  return verdict(page);
}

const scenarios = {
  "a digit is dropped": at(urls.digits, { viewport: TALL }, async (page) => {
    await drop(page, "body", "3.png", bytes);
    await page.locator("#chosen").waitFor({ state: "visible" });
    assert.match(await page.getAttribute("#chosen", "alt"), /8 × 8 pixels/);
    const radii = await noteRadii(page);
    const began = performance.now();
    await page.click("#submit");
    const title = await verdict(page);
    const seconds = (performance.now() - began) / 1000;
    assert.match(title, /^Any change of at most 0\.\d+ leaves it a 3\.$/);
    const answer = await answerOf(page);
    assert.ok(title.includes(String(answer.radius)));
    const seen = await radii();
    assert.ok(seen.length > 3, String(seen)); // progress, not only its end
    assert.deepEqual(seen, seen.toSorted((a, b) => a - b));
    assert.equal(seen.at(-1), answer.radius);
    for (const stage of answer.stages) {
      const card = page.locator(".scale", { hasText: `σ = ${stage.sigma}` });
      const counts = (await card.locator(".count").allInnerTexts()).map((text) => Number(text.replace(",", "")));
      assert.equal(counts.length, 10);
      assert.equal(counts.reduce((a, b) => a + b), stage.samples + stage.pilot_samples);
      const said = { path: /proves it, up to/, passed: /does not object/, open: /a first look|cannot tell/ };
      assert.match(await card.locator("p").innerText(), said[stage.outcome]);
      const widths = await card.locator(".bar").evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
      assert.equal(widths.indexOf(Math.max(...widths)), counts.indexOf(Math.max(...counts)));
    }
    await page.locator(".looks img").first().waitFor({ state: "visible" });
    const sizes = await page.locator(".looks img").evaluateAll((all) => all.map((img) => [img.complete, img.naturalWidth]));
    assert.deepEqual(sizes, Array(12).fill([true, 8])); // three scales, two draws, noisy and denoised
    const curl = await page.innerText("#curl");
    const python = await page.innerText("#python");
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: `${shots}/page-desktop.png` });
    return { seconds, answer, curl, python };
  }),

  "a reader hears it": at(urls.digits, {}, async (page) => {
    const status = page.locator("[role=status]");
    await page.evaluate(() => {
      window.heard = [];
      const status = document.getElementById("status");
      new MutationObserver(() => window.heard.push(status.textContent)).observe(status, { childList: true });
    });
    const title = await certifyDigit(page);
    assert.ok((await status.innerText()).startsWith(title));
    const heard = await page.evaluate(() => window.heard);
    assert.equal(heard[0], "Asking.");
    assert.equal(await page.locator("#status").getAttribute("aria-live"), "polite");
  }),

  "errors stand beside their fields": at(urls.digits, { refused: 4 }, async (page) => {
    const refused = async (field, text) => {
      const error = page.locator(`#${field}-error`);
      await error.waitFor({ state: "visible" });
      assert.match(await error.innerText(), text);
      assert.equal(await page.getAttribute(`#${field}`, "aria-invalid"), "true");
      assert.equal(await page.evaluate(() => document.activeElement.id), field);
      assert.ok((await page.getAttribute(`#${field}`, "aria-describedby")).includes(`${field}-error`));
      const [input, said] = await Promise.all([page.locator(`[data-field=${field}]`).boundingBox(), error.boundingBox()]);
      assert.ok(said.y >= input.y && said.y + said.height <= input.y + input.height + 1);
      assert.equal(await page.locator(".error:visible").count(), 1);
    };
    await page.click("#submit");
    await refused("image", /missing/i);
    await drop(page, "#drop", "notes.png", Buffer.from("no picture"));
    await page.click("#submit");
    await refused("image", /PNG, JPEG or WebP/);
    await drop(page, "#drop", "3.png", bytes);
    await page.fill("#samples", "1");
    await page.click("#submit");
    await refused("samples", /expected at least \d+/);
    await page.click("#samples-error button"); // the hint: so many samples are enough
    await page.locator("#samples-error").waitFor({ state: "hidden" });
    await page.fill("#deadline_ms", "-1").catch(() => {}); // still behind "More choices"
    await page.evaluate(() => (document.getElementById("deadline_ms").value = "-1"));
    await page.click("#submit");
    await refused("deadline_ms", /greater than or equal to 1/);
    assert.equal(await page.locator("#more").getAttribute("open"), "");
    await page.fill("#deadline_ms", "");
    await page.click("#submit");
    await verdict(page);
  }),

  "a radius out of reach is refused at its field, one within it is decided early": at(urls.digits, { refused: 1 }, async (page) => {
    await drop(page, "#drop", "3.png", bytes);
    await page.check("[value=radius]");
    await page.fill("#radius", "50");
    await page.click("#submit");
    await page.locator("#radius-error").waitFor({ state: "visible" });
    assert.match(await page.innerText("#radius-error"), /expected at most/);
    await page.fill("#radius", "0.2");
    await page.click("#submit");
    await verdict(page);
    const answer = await answerOf(page);
    assert.equal(answer.requested_radius, 0.2);
    assert.ok(answer.samples_used < 5000, String(answer.samples_used));
    assert.ok(await page.locator("#reach-mark").isVisible());
  }),

  "what was not proved has a next step": at(urls.digits, {}, async (page) => {
    await drop(page, "#drop", "3.png", bytes);
    await page.fill("#samples", "2000");
    await page.check("[value=radius]");
    await page.fill("#radius", "0.6");
    await page.click("#submit");
    await verdict(page);
    assert.notEqual((await answerOf(page)).outcome, "certified");
    assert.match(await page.innerText("#verdict-text"), /not the 0\.6 that you asked for|cannot tell|no class is clearly ahead/);
    await page.click("#next-step button"); // with four times the samples
    await page.locator("#submit", { hasText: /^Certify$/ }).waitFor();
    await verdict(page);
    assert.equal(await page.inputValue("#samples"), "8000");
  }),

  "a picture of another size is resized, and that is said": at(urls.digits, {}, async (page) => {
    await drop(page, "#drop", "photo.jpg", await readFile(photo), "image/jpeg");
    await page.locator("#resize-field").waitFor({ state: "visible" });
    assert.ok(await page.isChecked("#resize"));
    assert.match(await page.innerText("#resize-label"), /from \d+ × \d+ to 8 × 8/);
    await page.fill("#samples", "2000");
    await page.click("#submit");
    await verdict(page);
    assert.equal((await answerOf(page)).input.resized, true);
    assert.match(await page.innerText("#verdict-facts"), /resized, 8 × 8/);
  }),

  "the keyboard is enough": at(urls.digits, {}, async (page) => {
    const tabTo = async (id) => {
      for (let pressed = 0; pressed < 40; pressed++) {
        await page.keyboard.press("Tab");
        const [focused, outline] = await page.evaluate(() => {
          const { activeElement: element } = document;
          const shown = element.id === "image" ? document.getElementById("drop") : element;
          return [element.id || element.value, getComputedStyle(shown).outlineStyle];
        });
        assert.notEqual(outline, "none", `${focused} does not show that it has the focus`);
        if (focused === id) return;
      }
      assert.fail(`${id} is out of reach`);
    };
    page.on("filechooser", (chooser) => chooser.setFiles(digit)); // early: the browser learns late that it is awaited
    await tabTo("image");
    await page.keyboard.press("Enter");
    await page.locator("#chosen").waitFor({ state: "visible" });
    await tabTo("far");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.type("0.2");
    await tabTo("submit");
    await page.keyboard.press("Enter");
    await verdict(page);
    assert.equal((await answerOf(page)).requested_radius, 0.2);
    await tabTo("certificate");
  }),

  "a phone needs no scrolling to the side": at(urls.digits, { viewport: PHONE, isMobile: true, hasTouch: true, deviceScaleFactor: 1.5 }, async (page) => {
    assert.deepEqual(await sticksOut(page), []);
    await page.tap("summary");
    assert.deepEqual(await sticksOut(page), []);
    await page.tap("summary");
    await page.tap("#example");
    await page.locator("#chosen").waitFor({ state: "visible" });
    await page.tap("#submit");
    await verdict(page);
    await page.locator(".looks img").first().waitFor({ state: "visible" });
    assert.deepEqual(await sticksOut(page), []);
    const small = await page.locator("button:visible, .button:visible, summary").evaluateAll((all) =>
      all.filter((element) => element.getBoundingClientRect().height < 24).map((element) => element.textContent),
    );
    assert.deepEqual(small, []); // WCAG 2.2, 2.5.8
    await page.evaluate(() => document.getElementById("answer").scrollIntoView());
    await page.screenshot({ path: `${shots}/page-phone.png` });
  }),

  "a signed certificate is saved": at(urls.digits, {}, async (page) => {
    await certifyDigit(page);
    const saved = page.waitForEvent("download");
    await page.click("#certificate");
    const download = await saved;
    await download.saveAs(`${downloads}/${download.suggestedFilename()}`);
    const { radius } = await answerOf(page);
    return { file: `${downloads}/${download.suggestedFilename()}`, radius };
  }),

  "it works under a prefix, without previews": at(`${urls.fake}/here`, { refused: 1 }, async (page) => {
    await page.click("#example");
    await page.locator("#chosen").waitFor({ state: "visible" });
    await page.click("#submit");
    await verdict(page);
    assert.equal(await page.locator(".looks:visible").count(), 0);
    assert.match(await page.innerText("#curl"), /\/here\/v1\/certify/);
    assert.ok(await page.locator("#certificate").isHidden()); // nothing signs there
    await page.click("#submit"); // it was told once that there are no previews
    await page.locator("#submit", { hasText: /^Certify$/ }).waitFor();
  }),

  "a request is stopped": at(`${urls.fake}/here/`, { refused: 1 }, async (page) => {
    await drop(page, "#drop", "3.png", bytes);
    await page.fill("#samples", "100000"); // ten seconds
    const noPreview = page.waitForResponse(/v1\/preview/);
    await page.click("#submit");
    await noPreview;
    await page.click("#stop");
    assert.equal(await verdict(page), "Stopped");
    assert.equal(await page.evaluate(() => document.activeElement.id), "submit");
  }),

  "a service that cannot be reached is asked again": at(`${urls.fake}/here/`, { refused: 2 }, async (page) => {
    await drop(page, "#drop", "3.png", bytes);
    await page.context().setOffline(true);
    await page.click("#submit");
    assert.equal(await verdict(page), "No answer");
    assert.ok(await page.locator("#reach").isHidden());
    await page.context().setOffline(false);
    await page.click("#next-step button");
    await page.locator("#verdict-title", { hasNotText: "No answer" }).waitFor({ state: "visible" });
    assert.ok((await answerOf(page)).samples_used > 0);
  }),

  "a key is asked for only where it is needed, and kept nowhere": at(urls.keys, { refused: 2 }, async (page) => {
    assert.ok(await page.locator("#key-field").isHidden());
    await drop(page, "#drop", "3.png", bytes);
    await page.click("#submit");
    await page.locator("#key-error").waitFor({ state: "visible" });
    await page.fill("#key", key);
    await page.click("#submit");
    await verdict(page);
    const shown = (await page.innerText("#curl")) + (await page.innerText("#python"));
    assert.ok(shown.includes("CERTIFY_KEY") && !shown.includes(key));
    await page.click("#submit"); // the same again comes from memory, without votes to show
    await page.locator("#verdict-facts", { hasText: "from memory" }).waitFor({ state: "visible" });
    assert.equal(await page.locator(".votes:visible").count(), await page.locator(".scale:not([data-outcome])").count());
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href]);
    assert.deepEqual(kept.slice(0, 3), [0, 0, ""]);
    await page.reload();
    assert.equal(await page.inputValue("#key"), "");
  }),

  "the API's page sends a digit with what it fills in": at(`${urls.digits}/docs`, { ready: shown }, async (page) => {
    for (const operation of ["certify", "preview"]) {
      const [status, answer] = await tryItOut(page, operation, digit);
      assert.equal(status, 200, JSON.stringify(answer));
      assert.equal(answer.input.resized, false);
    }
  }),

  "nothing moves for whoever wants calm": at(urls.digits, { reducedMotion: "reduce" }, async (page) => {
    await certifyDigit(page);
    const times = await page.locator(".bar, .fill").evaluateAll((all) => all.map((each) => getComputedStyle(each).transitionDuration));
    assert.ok(times.length > 10 && times.every((time) => time === "0s"), String(times));
  }),
};

// bypassCSP: axe puts a style of its own into the page while it looks.
for (const colorScheme of ["light", "dark"]) {
  for (const viewport of [undefined, PHONE]) {
    const options = { colorScheme, bypassCSP: true, refused: 1, ...(viewport && { viewport }) };
    scenarios[`axe finds nothing serious, ${colorScheme}${viewport ? ", phone" : ""}`] = at(urls.digits, options, async (page) => {
      const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
      await page.evaluate(axe);
      const found = [];
      const look = async (when) => {
        const { violations } = await page.evaluate(() => window.axe.run());
        found.push(...violations.map(({ id, impact, nodes }) => ({ when, id, impact, target: nodes[0].html })));
      };
      await page.click("#submit");
      await page.locator("#image-error").waitFor({ state: "visible" });
      await page.click("summary");
      await look("with an error");
      await certifyDigit(page);
      await page.locator(".looks img").first().waitFor({ state: "visible" });
      await look("with an answer");
      assert.deepEqual(found, []);
    });
  }
}

const results = [];
for (const [name, scenario] of Object.entries(scenarios)) {
  const began = performance.now();
  let error = null;
  let facts = null;
  try {
    facts = (await scenario()) ?? null;
  } catch (failure) {
    error = failure.stack ?? String(failure);
  }
  results.push({ name, error, facts, took: (performance.now() - began) / 1000 });
}
await browser.close();
console.log(JSON.stringify(results));
