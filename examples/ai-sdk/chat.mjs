// Three turns with the Vercel AI SDK over Frontdesk's /v1/chat/completions: a streamed answer, a question about it, and
// an answer made from what a tool found. Chat Completions keep nothing, so the script sends the whole talk each time.
// FRONTDESK_URL and FRONTDESK_KEY say which server; a server on its own machine asks for no key.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const frontdesk = createOpenAICompatible({
  name: "frontdesk",
  baseURL: `${process.env.FRONTDESK_URL ?? "http://127.0.0.1:8000"}/v1`,
  apiKey: process.env.FRONTDESK_KEY ?? "none",
  includeUsage: true, // else a streamed answer comes without its token counts
});
const model = frontdesk.chatModel("frontdesk-small");

/** Prints the answer to `talk` as it comes, then what it cost, and adds it to `talk`. */
async function answer(talk) {
  const result = streamText({
    model,
    messages: talk,
    maxOutputTokens: 100,
    onError: () => {}, // the loop below throws it
  });
  process.stdout.write(`> ${talk.findLast((message) => message.role === "user").content}\n`);
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") process.stdout.write(part.text);
  }
  const { inputTokens, inputTokenDetails, outputTokens } = await result.usage;
  const usage = { inputTokens, cachedTokens: inputTokenDetails.cacheReadTokens, outputTokens };
  process.stdout.write(`\nusage ${JSON.stringify(usage)}\n\n`);
  talk.push(...(await result.response).messages);
}

/** What a shop would look up in its database. */
function repairPrice(product) {
  return { price: product === "kettle" ? "$18.00" : "$25.00", date: "June 12" };
}

try {
  const talk = [{ role: "user", content: "When are you open?" }];
  await answer(talk);

  talk.push({ role: "user", content: "And on Sunday?" });
  await answer(talk);

  // The server does not let the model choose tools yet: a request with `tools` is refused. So the program decides that
  // one is needed, runs it, and hands over call and result as the SDK writes them; the model puts them into words.
  const input = { product: "kettle" };
  const call = { toolCallId: "call_1", toolName: "get_repair_price" };
  const output = { type: "json", value: repairPrice(input.product) };
  talk.push(
    { role: "user", content: "What would a repair of my kettle cost?" },
    { role: "assistant", content: [{ type: "tool-call", ...call, input }] },
    { role: "tool", content: [{ type: "tool-result", ...call, output }] },
  );
  await answer(talk);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
