// Names that nobody else has. Not `crypto.randomUUID`: browsers keep that from pages that came over plain HTTP.

export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
