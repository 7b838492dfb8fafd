// deep-chat over Frontdesk. Its own OpenAI connection is not used: that wants a key in the page, and sends the model and
// the whole talk each time. A handler of one's own can also stop an answer and come back to it.

import "./node_modules/deep-chat/dist/deepChat.bundle.js";
import { Frontdesk } from "./frontdesk.js";

const PAGE = 50; // messages that are loaded at once, here and when the reader scrolls up
const GREETING = { role: "ai", text: "Hello! Ask me about opening hours, shipping or returns." };

const place = document.querySelector("main");
const frontdesk = new Frontdesk(place.dataset.server, place.dataset.widget);
let oldest = null; // id of the oldest message that was loaded

async function history() {
  const page = await frontdesk.items(oldest, PAGE);
  oldest = page.last_id;
  const messages = page.data.filter((item) => item.type === "message").reverse().map(asMessage);
  return page.has_more ? messages : [false, GREETING, ...messages]; // `false`: there is nothing above
}

function asMessage({ role, content }) {
  return { role: role === "user" ? "user" : "ai", text: content.map((part) => part.text).join("") };
}

async function answer({ messages }, { onOpen, onResponse, onClose, stopClicked }) {
  try {
    for await (const event of frontdesk.answer(messages.at(-1).text)) {
      if (event.type === "response.created") {
        stopClicked.listener = () => frontdesk.stop(event.response.id);
        onOpen();
      }
      if (event.type === "response.output_text.delta") await onResponse({ text: event.delta });
      if (event.type === "response.failed") throw new Error(event.response.error.message);
      if (event.type === "error") throw new Error(event.message);
    }
    onClose();
  } catch (error) {
    onClose();
    chat.addMessage({ error: error.message });
  }
}

const chat = Object.assign(document.createElement("deep-chat"), {
  connect: { handler: answer, stream: true },
  loadHistory: history,
  errorMessages: { displayServiceErrorMessages: true },
  textInput: { placeholder: { text: "Write a message" } },
});
// Without a font of the page's own, deep-chat would load one from Google.
Object.assign(chat.style, { width: "100%", height: "60vh", borderRadius: "8px", fontFamily: "system-ui, sans-serif" });
place.append(chat);
