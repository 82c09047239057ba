"""What `helm test` runs: certify a drawn picture and hold the answer to its promises.

Of a service that asks for a key it only sees that it does: the keys are nobody's but the clients'.
"""

import io
import sys

import httpx
from PIL import Image, ImageDraw

base = sys.argv[1]
info = httpx.get(f"{base}/info", timeout=30).raise_for_status().json()
channels, height, width = info["bundle"]["input_shape"]
picture = Image.new("L" if channels == 1 else "RGB", (width, height))
# A one: a bright stroke down the middle.
ImageDraw.Draw(picture).line(
    [(width // 2, 1), (width // 2, height - 2)], fill=tuple([255] * channels), width=max(1, width // 6)
)
buffer = io.BytesIO()
picture.save(buffer, "PNG")
response = httpx.post(f"{base}/certify", files={"image": buffer.getvalue()}, data={"samples": "2000"}, timeout=300)
if response.status_code == 401 and response.json()["code"] == "unauthorized":
    print("asks for a key, as it should with apiKeys; nothing was certified")
    sys.exit()
response.raise_for_status()
answer = response.json()
assert answer["outcome"] in ("certified", "abstained"), answer
assert (answer["label"] is None) == (answer["outcome"] == "abstained"), answer
assert answer["samples_used"] <= 2000, answer
assert answer["bundle"]["digest"] == info["bundle"]["digest"], answer
print(answer["outcome"], answer["label"], "radius", answer["radius"], "with", answer["samples_used"], "samples")
