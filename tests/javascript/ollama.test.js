// The official `ollama` JavaScript client, unmodified. AISTACK_URL and AISTACK_KEY say where and with what.
import assert from "node:assert/strict";
import test from "node:test";

import { Ollama } from "ollama";

const host = `${process.env.AISTACK_URL}/ollama`;
const client = new Ollama({ host, headers: { Authorization: `Bearer ${process.env.AISTACK_KEY}` } });
const messages = [{ role: "user", content: "what does the farmer do" }];
const options = { num_predict: 6, temperature: 0 };
const colour = { type: "object", properties: { colour: { enum: ["red"] } }, required: ["colour"] };
const weather = { type: "function", function: { name: "weather", description: "d", parameters: colour } };

async function gathered(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

test("lists the models, tells of one and of its version", async () => {
  const names = (await client.list()).models.map((model) => model.name);
  assert.ok(names.includes("demo:latest"));
  const shown = await client.show({ model: "demo" });
  assert.equal(shown.details.family, "llama");
  assert.ok(shown.model_info["general.architecture"]);
  assert.match((await client.version()).version, /^\d+\.\d+/);
});

test("says the same in one piece and streamed, with the counts at the end", async () => {
  const whole = await client.chat({ model: "demo", messages, options });
  assert.equal(whole.eval_count, 6);
  assert.equal(whole.done_reason, "length");
  assert.ok(whole.total_duration > 0 && whole.prompt_eval_count > 0);
  const pieces = await gathered(await client.chat({ model: "demo", messages, options, stream: true }));
  assert.ok(pieces.length > 2);
  assert.equal(pieces.map((piece) => piece.message.content).join(""), whole.message.content);
  assert.equal(pieces.at(-1).eval_count, 6);
});

test("answers a prompt, raw and with a system message", async () => {
  const answer = await client.generate({ model: "demo", prompt: "the farmer", system: "be brief", options });
  assert.ok(answer.response);
  const pieces = await gathered(await client.generate({ model: "demo", prompt: "a", raw: true, options, stream: true }));
  assert.equal(pieces.at(-1).done, true);
});

test("keeps to a JSON schema", async () => {
  const answer = await client.chat({ model: "demo", messages, format: colour });
  assert.deepEqual(JSON.parse(answer.message.content), { colour: "red" });
});

test("takes tools and their answers", async () => {
  const called = { role: "assistant", content: "", tool_calls: [{ function: { name: "weather", arguments: {} } }] };
  const answered = [...messages, called, { role: "tool", content: "sun", tool_name: "weather" }];
  const answer = await client.chat({ model: "talker", messages: answered, tools: [weather], think: false, options });
  assert.ok(answer.message.content);
});

test("thinks when it is told to", async () => {
  const thought = await client.chat({ model: "talker", messages, think: true, options });
  assert.ok(thought.message.thinking);
  const said = await client.chat({ model: "talker", messages, think: false, options });
  assert.ok(said.message.content && !said.message.thinking);
});

test("turns texts into vectors", async () => {
  const { embeddings } = await client.embed({ model: "tiny-embed", input: ["hello", "there"] });
  assert.deepEqual(embeddings.map((vector) => vector.length), [32, 32]);
  const { embedding } = await client.embeddings({ model: "tiny-embed", prompt: "there" });
  embedding.forEach((value, place) => assert.ok(Math.abs(value - embeddings[1][place]) < 1e-5));
});

test("loads, lists what is loaded, and unloads", async () => {
  const loaded = await client.generate({ model: "demo", prompt: "", keep_alive: "1h" });
  assert.equal(loaded.done_reason, "load");
  const entry = (await client.ps()).models.find((model) => model.name === "demo:latest");
  assert.ok(new Date(entry.expires_at) > new Date(Date.now() + 50 * 60 * 1000));
  assert.equal((await client.generate({ model: "demo", prompt: "", keep_alive: 0 })).done_reason, "unload");
});

test("a stream can be given up, and the next request is served", async () => {
  const stream = await client.chat({ model: "demo", messages, stream: true });
  // Before the first line is read: a client that is slow to start may find the whole answer in its first read.
  stream.abort();
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, { name: "AbortError" });
  assert.ok((await client.chat({ model: "demo", messages, options })).message.content);
});

test("mistakes are told in words", async () => {
  await assert.rejects(client.chat({ model: "nobody", messages }), /model 'nobody' not found/);
  await assert.rejects(client.pull({ model: "x" }), /administrators/);
  const stranger = new Ollama({ host, headers: { Authorization: "Bearer ask_wrong" } });
  await assert.rejects(stranger.list(), /API key/);
});
