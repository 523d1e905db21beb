// Addresses that several pages know.
/** A chat in which a person attacks the policy. */
export const RED_TEAM = "/red-team";
