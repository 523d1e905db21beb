// Figures as people read them. No line ends within one.
const THIN = "\u202f";
const TO = "–\u2060";

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 0.8312 -> "83.1 %"; a dash for what is not there. */
export function share(value, digits = 0) {
  return isNumber(value) ? `${(100 * value).toFixed(digits)}${THIN}%` : "–";
}

export function figure(value, digits = 2) {
  if (!isNumber(value)) return "–";
  // What rounds to nothing has no sign.
  return value.toFixed(digits).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
}

export const toDigits = (digits) => (value) => figure(value, digits);

export function whole(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en").replace("-", "−") : "–";
}

/** An estimate `{value, interval, count}` of a share. */
export function shareEstimate(estimate, digits = 0) {
  if (!estimate || !isNumber(estimate.value)) return "–";
  const [low, high] = Array.isArray(estimate.interval) ? estimate.interval : [];
  return isNumber(low)
    ? `${share(estimate.value, digits)} (${(100 * low).toFixed(digits)}${TO}${(100 * high).toFixed(digits)})`
    : share(estimate.value, digits);
}

/** The share `name` of a report, whose interval stands beside it. */
export function shareOf(report, name, digits = 0) {
  return shareEstimate({ value: report?.[name], interval: report?.[`${name}_interval`] }, digits);
}

export function signed(value, digits = 0) {
  return isNumber(value) ? `${value > 0 ? "+" : ""}${figure(value, digits)}` : "–";
}

/** Seconds since the epoch as a local date and time; where a line has to break, it breaks between the two. */
export function when(seconds) {
  if (!isNumber(seconds)) return "–";
  const at = new Date(1000 * seconds);
  const parts = [
    at.toLocaleDateString(undefined, { dateStyle: "medium" }),
    at.toLocaleTimeString(undefined, { timeStyle: "short" }),
  ];
  return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(", ");
}

export function lasting(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)}${THIN}s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}${THIN}min`;
  return `${(seconds / 3600).toFixed(1)}${THIN}h`;
}

export const shortDigest = (digest) => (digest ? String(digest).replace(/^sha256:/, "").slice(0, 12) : "–");
