// /docs, as whoever reads the API tries it.
import assert from "node:assert/strict";

/** Sends `file` to an operation with what the form has in it, and gives the status and the answer. */
export async function tryItOut(page, operation, file) {
  const block = page.locator(`#operations-default-${operation}`);
  await block.locator(".opblock-summary-control").click();
  await block.locator(".try-out__btn").click();
  await block.locator("input[type=file]").setInputFiles(file);
  const answered = page.waitForResponse((response) => response.request().method() === "POST");
  await block.locator(".execute").click();
  const answer = await answered;
  await block.locator(".live-responses-table .response-col_status").first().waitFor();
  assert.match(await block.locator(".live-responses-table").innerText(), new RegExp(`\\b${answer.status()}\\b`));
  return [answer.status(), await answer.json()];
}
