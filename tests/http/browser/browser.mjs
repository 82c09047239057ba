// A Chromium and pages of it that note what they ask and say: what the scenarios stand on.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

export const DESKTOP = { width: 1200, height: 900 };
// All of an answer, for its picture.
export const TALL = { width: 1200, height: 1310 };
export const PHONE = { width: 390, height: 844 };

export async function launch(executablePath) {
  // Tests may run as root in a container, where Chromium's own sandbox cannot start.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

const served = (page) =>
  page.waitForFunction(() => document.getElementById("served").textContent.includes("classes"));

/** Runs `scenario(page)` on a page of its own; no request of it may leave the service, and no error reach its console.
refused: how many answers with an error status it expects; Chromium notes each on the console. ready: of the page. */
export async function onPage(browser, url, options, scenario) {
  const { refused = 0, ready = served, ...rest } = options;
  const context = await browser.newContext({ viewport: DESKTOP, acceptDownloads: true, ...rest });
  context.setDefaultTimeout(60_000); // the machine may have other work
  const page = await context.newPage();
  const asked = [];
  const errors = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  try {
    await page.goto(url);
    await ready(page);
    const facts = await scenario(page);
    const origin = new URL(url).origin;
    for (const each of asked) assert.ok(each.startsWith(origin) || /^(blob|data):/.test(each), each);
    const loads = errors.filter((text) => text.startsWith("Failed to load resource"));
    assert.deepEqual(errors.filter((text) => !loads.includes(text)), []);
    assert.equal(loads.length, refused, loads.join("\n"));
    return facts;
  } finally {
    await context.close();
  }
}

/** Drop a file as a person does, on the element that `selector` names. */
export async function drop(page, selector, name, bytes, type = "image/png") {
  const transfer = await page.evaluateHandle(
    ([name, base64, type]) => {
      const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type }));
      return transfer;
    },
    [name, bytes.toString("base64"), type],
  );
  for (const event of ["dragenter", "dragover", "drop"]) await page.dispatchEvent(selector, event, { dataTransfer: transfer });
}

/** Note each radius that the page shows from now on. */
export async function noteRadii(page) {
  await page.evaluate(() => {
    window.radii = [];
    const value = document.getElementById("reach-value");
    new MutationObserver(() => window.radii.push(Number(value.textContent))).observe(value, { childList: true });
  });
  return () => page.evaluate(() => window.radii);
}

export async function verdict(page) {
  await page.locator("#verdict").waitFor({ state: "visible" });
  return page.locator("#verdict-title").innerText();
}

/** The answer as the page offers it to be kept. */
export async function answerOf(page) {
  const saved = page.waitForEvent("download");
  await page.click("#save");
  return JSON.parse(await readFile(await (await saved).path(), "utf8"));
}

/** Everything of the page that sticks out on the right. */
export const sticksOut = (page) =>
  page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const inside = (element) => element.closest("pre, .spoken");
    return [...document.querySelectorAll("body *")]
      .filter((element) => element.getBoundingClientRect().right > width + 0.5 && !inside(element))
      .map((element) => `${element.tagName}#${element.id}.${element.className}`)
      .concat(document.scrollingElement.scrollWidth > width ? [`scrollWidth ${document.scrollingElement.scrollWidth}`] : []);
  });
