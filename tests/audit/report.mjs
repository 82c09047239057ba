// A report from the disk in a real Chromium: what it asks for, what axe finds, how it prints. node report.mjs SETTINGS
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const { chromium: executablePath, file, pdf, shot } = JSON.parse(process.argv[2]);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const A4 = { width: 718, height: 1017 }; // less its margins of 14 mm, at 96 dots an inch
const PHONE = { width: 390, height: 844 };

// Tests may run as root in a container, where Chromium's own sandbox cannot start.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage();
const asked = [];
const errors = [];
page.on("request", (request) => asked.push(request.url()));
page.on("console", (message) => errors.push(message.text()));
page.on("pageerror", (error) => errors.push(String(error)));

/** Whatever sticks out on the right. */
const wide = async (viewport) => {
  await page.setViewportSize(viewport);
  return page.evaluate(() =>
    [...document.querySelectorAll("body *")]
      .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
      .map((each) => `${each.tagName}.${each.className}`),
  );
};

await page.goto(pathToFileURL(file).href);
const tables = await page.evaluate(() =>
  Object.fromEntries(
    [...document.querySelectorAll("table")].map((table) => [
      table.id,
      [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText)),
    ]),
  ),
);
const pictures = await page.evaluate(() => [...document.images].map((each) => each.naturalWidth));
await page.evaluate(axe);
const found = await page.evaluate(() => axe.run());
if (shot) {
  await page.setViewportSize({ width: 1000, height: 1300 });
  await page.screenshot({ path: shot });
}
const phone = await wide(PHONE);
await page.emulateMedia({ media: "print" });
const paper = await wide(A4);
await page.pdf({ path: pdf, preferCSSPageSize: true });
await browser.close();
const violations = found.violations.map((each) => [each.id, each.impact, each.nodes.map((node) => node.html.slice(0, 200))]);
console.log(JSON.stringify({ asked, errors, tables, pictures, violations, passes: found.passes.length, phone, paper }));
