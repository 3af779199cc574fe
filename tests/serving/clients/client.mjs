// Call the server with OpenAI's JavaScript client and print what it understood, as one JSON object.
import OpenAI from "openai";

const [root, slowRoot, model] = process.argv.slice(2);
const clientOf = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60000 });
const client = clientOf(root);
const slow = clientOf(slowRoot);
const messages = [{ role: "user", content: "你好, tell me a story" }];
const chat = { model, messages, temperature: 0, max_tokens: 24 };

async function collect(stream, textOf) {
  const result = { text: "", chunks: 0, usage: null, reason: null };
  for await (const chunk of stream) {
    result.chunks += 1;
    result.usage = chunk.usage ?? result.usage;
    if (chunk.choices.length === 0) continue;
    result.text += textOf(chunk.choices[0]) ?? "";
    result.reason = chunk.choices[0].finish_reason ?? result.reason;
  }
  return result;
}

async function errorOf(promise) {
  try {
    await promise;
    return { name: "none" };
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message };
  }
}

async function abort() {
  const long = [{ role: "user", content: "x".repeat(1500) }];
  const stream = await slow.chat.completions.create({ model, messages: long, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) stream.controller.abort();
  }
  return true;
}

// A second turn, with the first answer as the client has it and as its text alone, whole and streamed.
async function turns(first, streamed) {
  const ask = (message) => ({ ...chat, messages: [...messages, message, { role: "user", content: "and then?" }] });
  const whole = (message) => client.chat.completions.create(ask(message)).then((one) => one.choices[0].message.content);
  return {
    plain: await whole({ role: "assistant", content: first.content }),
    whole: await whole(first),
    ofStream: await whole(streamed),
    stream: await client.chat.completions.stream(ask(streamed)).finalContent(),
  };
}

const withUsage = { stream: true, stream_options: { include_usage: true } };
const prompt = { model, prompt: "你好! 我们用中文打个招呼", temperature: 0, max_tokens: 20 };
const whole = await client.chat.completions.create(chat);
const text = await client.completions.create(prompt);
console.log(
  JSON.stringify({
    models: (await client.models.list()).data.map((one) => one.id),
    chat: { text: whole.choices[0].message.content, usage: whole.usage },
    chatStream: await collect(
      await client.chat.completions.create({ ...chat, ...withUsage }),
      (choice) => choice.delta.content,
    ),
    completion: { text: text.choices[0].text, usage: text.usage },
    completionStream: await collect(
      await client.completions.create({ ...prompt, ...withUsage }),
      (choice) => choice.text,
    ),
    turns: await turns(
      whole.choices[0].message,
      await client.chat.completions.stream(chat).finalMessage(),
    ),
    embeddings: (await client.embeddings.create({ model, input: ["cat", "你好"] })).data.map(
      (one) => one.embedding.length,
    ),
    unknownModel: await errorOf(client.chat.completions.create({ ...chat, model: "another" })),
    badTemperature: await errorOf(client.chat.completions.create({ ...chat, temperature: -1 })),
    aborted: await abort(),
  }),
);
