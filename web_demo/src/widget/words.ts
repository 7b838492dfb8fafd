// What the widget says, in four languages. Values in braces are filled in by `fill`.
//
// Arabic, Hebrew and Persian are written from the right; their words are English until somebody who speaks them writes
// them here. Greeting, questions and title come from the page in any case.

import { de } from "./words_de.js";
import { es } from "./words_es.js";
import { fr } from "./words_fr.js";

export const en = {
  title: "Help",
  greeting: "Hello! How can I help you?",
  open: "Open the chat",
  close: "Close the chat",
  unread: "New messages: {count}",
  messages: "Messages",
  message: "Message",
  placeholder: "Write a message",
  send: "Send",
  stop: "Stop",
  you: "You",
  answer: "Answer",
  madeByMachine: "Answers come from an AI and can be wrong.",
  anew: "New conversation",
  earlier: "Earlier messages",
  newest: "To the newest message",
  thinking: "Thinking…",
  inLine: "You are number {place} in line.",
  reconnecting: "The connection broke. Reconnecting…",
  cutShort: "This answer was cut short.",
  stopped: "Stopped.",
  again: "Try again",
  offline: "You seem to be offline.",
  unreachable: "The chat cannot be reached at the moment.",
  notHere: "This chat is not set up for this website.",
  gone: "This chat is no longer available.",
  signIn: "Please sign in to chat.",
  busy: "Too many people are asking at once. Try again in a moment.",
  budget: "You have reached the limit for now. Please try again later.",
  tooLong: "The message is too long.",
  locked: "An answer is still being written. Wait for its end, then try again.",
  failed: "Something went wrong.",
  notAnswered: "This message was not answered.",
  person: "Talk to a person",
  personIntro: "Leave your message, and somebody from our team will get in touch.",
  contact: "How can we reach you?",
  contactHint: "Email address or phone number",
  about: "What is it about?",
  request: "Send the request",
  cancel: "Cancel",
  requested: "We have your request and will get in touch.",
  requestDone: "Our team has dealt with your request.",
  change: "Change",
};

export type Words = typeof en;

const LANGUAGES: Record<string, Words> = { en, de, es, fr };
const FROM_THE_RIGHT = new Set(["ar", "he", "iw", "fa", "ur"]);

/** The words of a language, which may have a region: `de-AT`. English where there are none. */
export function wordsOf(tag: string): Words {
  return LANGUAGES[base(tag)] ?? en;
}

/** The language of those words. */
export function spokenFor(tag: string): string {
  return LANGUAGES[base(tag)] ? tag : "en";
}

export function isFromTheRight(tag: string): boolean {
  return FROM_THE_RIGHT.has(base(tag));
}

export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

function base(tag: string): string {
  return tag.toLowerCase().split("-")[0] ?? "";
}
