import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const [file, canvas, result] = ["file", "image", "result"].map((id) => document.getElementById(id));

/** A tensor of the image, stretched to the size that the model takes. */
function tensorOf(image, { shape: [, height, width, channels], type }) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = new Float32Array(height * width * channels);
  for (let k = 0; k < height * width; k++) {
    const [red, green, blue] = rgba.subarray(4 * k, 4 * k + 3);
    const values = channels === 3 ? [red, green, blue] : [0.299 * red + 0.587 * green + 0.114 * blue];
    pixels.set(values, k * channels);
  }
  // A file that was exported with --preprocess takes bytes.
  const data = type === "uint8" ? Uint8Array.from(pixels) : pixels.map((value) => value / 127.5 - 1);
  return new ort.Tensor(type, data, [1, height, width, channels]);
}

async function classify(session, names, blob) {
  const tensor = tensorOf(await createImageBitmap(blob), session.inputMetadata[0]);
  const outputs = await session.run({ [session.inputNames[0]]: tensor });
  const ranked = Array.from(outputs[session.outputNames[0]].data, (value, k) => [value, names[k] ?? k]);
  ranked.sort(([a], [b]) => b - a);
  const lines = ranked.slice(0, 5).map(([value, name]) => `${(100 * value).toFixed(4)} %  ${name}`);
  result.textContent = lines.join("\n");
}

try {
  const session = await ort.InferenceSession.create("model.onnx");
  const classes = await fetch("classes.txt");
  const names = classes.ok ? (await classes.text()).split("\n") : [];
  result.textContent = "choose an image";
  file.onchange = () => classify(session, names, file.files[0]);
  const address = new URLSearchParams(location.search).get("image");
  if (address) await classify(session, names, await (await fetch(address)).blob());
} catch (error) {
  result.textContent = `error: ${error.message}`;
}
