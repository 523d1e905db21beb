// Names as they are shown: none looks like another.

/** Has the text around it run the other way, or is not seen at all. */
const UNSEEN = /[\p{Cc}\p{Cf}]/gu;

export const shownName = (name) => name.replace(UNSEEN, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
