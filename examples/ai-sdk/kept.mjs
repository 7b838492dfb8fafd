// Two turns with the Vercel AI SDK's OpenAI provider as it comes, over Frontdesk's /v1/responses. The server keeps each
// response, so the second turn only names the first answer by its id (an `item_reference`) instead of sending its text.
// FRONTDESK_URL and FRONTDESK_KEY say which server; a server on its own machine asks for no key.

import { createOpenAI } from "@ai-sdk/openai";
import { streamText } from "ai";

const frontdesk = createOpenAI({
  baseURL: `${process.env.FRONTDESK_URL ?? "http://127.0.0.1:8000"}/v1`,
  apiKey: process.env.FRONTDESK_KEY ?? "none",
});

try {
  const talk = [];
  for (const question of ["When are you open?", "And on Sunday?"]) {
    talk.push({ role: "user", content: question });
    process.stdout.write(`> ${question}\n`);
    const result = streamText({
      model: frontdesk("frontdesk-small"),
      messages: talk,
      maxOutputTokens: 100,
      onError: () => {}, // the loop below throws it
    });
    for await (const part of result.fullStream) {
      if (part.type === "error") throw part.error;
      if (part.type === "text-delta") process.stdout.write(part.text);
    }
    const { inputTokens, outputTokens } = await result.usage;
    process.stdout.write(`\nusage ${JSON.stringify({ inputTokens, outputTokens })}\n\n`);
    talk.push(...(await result.response).messages);
  }
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
