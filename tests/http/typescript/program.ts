// Asks a running service by the types of its own document, and prints each status.
//     node program.js SERVICE WAITING DIGIT      the second service has no backend
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Form = components["schemas"]["CertifyForm"];
const [, , url = "", waiting = "", digit = ""] = process.argv;
const bytes = readFileSync(digit);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: "Bearer k1" } });

function form(image: BlobPart, fields: Omit<Form, "image">): Form {
  const data = new FormData();
  data.append("image", new Blob([image]), "digit.png");
  for (const [name, value] of Object.entries(fields)) {
    for (const each of Array.isArray(value) ? value : [value]) data.append(name, String(each));
  }
  return data as unknown as Form; // what carries a file in a browser has no members to type
}

async function send(image: BlobPart, fields: Omit<Form, "image">, headers: Record<string, string> = {}, to = client) {
  return await to.POST("/v1/certify", { body: form(image, fields), bodySerializer: (body) => body, headers });
}

function expect(truth: boolean, what: unknown): void {
  if (!truth) throw new Error(JSON.stringify(what));
}

const byForm = await send(bytes, { samples: 2000, sigmas: [0.5, 1], radius: 0.2 });
const byJson = await client.POST("/v1/certify", {
  body: { image: bytes.toString("base64url"), samples: 2000, sigmas: [0.5, 1], radius: 0.2 },
});
expect(byForm.data !== undefined && byForm.data.radius === byJson.data?.radius, byJson.error);
const label: string | undefined = byForm.data?.label?.name;
expect(label === byJson.data?.label?.name, label);
const statuses = [byForm.response.status, byJson.response.status];

const answers = [
  await send(bytes, { threshold: Array<number>(100).fill(0.5) }),
  await send(bytes, {}, { Authorization: "Bearer k3" }),
  await send(new Uint8Array(60000), {}),
  await send("no image", {}),
  await send(bytes, { samples: 1 }),
  await send(bytes, { samples: 5000 }, { Authorization: "Bearer k2" }),
  await send(bytes, {}, {}, createClient<paths>({ baseUrl: waiting })),
  await send(bytes, { deadline_ms: 1 }),
];
for (const { error, response } of answers) {
  if (error === undefined) throw new Error("expected a problem");
  expect(error.status === response.status && error.timing.total_seconds >= 0, error);
  // One type for each status: what is checked narrows what may be read.
  if (error.status === 422 && error.code === "budget_too_small") {
    const again: number | undefined = error.min_samples;
    expect(error.field === "samples" && again !== undefined && again > 1, error);
  }
  if (error.status === 413) expect(error.max_body_bytes === 50000, error);
  if (error.status === 429 || error.status === 503) expect(Number(response.headers.get("Retry-After")) >= 1, error);
  statuses.push(error.status);
}
console.log(statuses.join(" "));
