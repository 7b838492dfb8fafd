// Numbers and times as people read them. Pure.

const KEPT_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function count(value: number): string {
  return Math.round(value).toLocaleString();
}

/** A length of time. */
export function seconds(value: number): string {
  if (value < 0.0995) return `${Number((value * 1000).toFixed(1))} ms`;
  if (value < 0.9995) return `${(value * 1000).toFixed(0)} ms`;
  if (value < 60) return `${value.toFixed(value < 9.95 ? 1 : 0)} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60 ? `${minutes} min ${Math.floor(value % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function rate(value: number): string {
  return value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });
}

export function bytes(value: number): string {
  const power = value > 0 ? Math.min(Math.floor(Math.log2(value) / 10), KEPT_UNITS.length - 1) : 0;
  const scaled = value / 1024 ** power;
  return `${scaled.toFixed(power > 0 && scaled < 10 ? 1 : 0)} ${KEPT_UNITS[power]}`;
}

/** Time of day; `at` is in seconds since 1970. */
export function clock(at: number, withSeconds = false): string {
  const second = withSeconds ? ({ second: "2-digit" } as const) : {};
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...second });
}

/** Time of day for today, the day and the time for any other. */
export function moment(at: number): string {
  const then = new Date(at * 1000);
  if (then.toDateString() === new Date().toDateString()) return clock(at, true);
  return `${then.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" })}, ${clock(at)}`;
}
