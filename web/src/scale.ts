// The scale of weights that all maps share: bytes by even ratios.

const DECADES = 6; // between a byte of 1 and one of 255

/** A weight on the scale that all maps share. */
export function logByte(weight: number): number {
  if (!(weight > 0)) return 0;
  const steps = Math.round(255 + (254 / DECADES) * Math.log10(Math.max(weight, 10 ** -DECADES)));
  return Math.max(1, Math.min(255, steps));
}

/** The weight that a byte stands for. */
export function byteWeight(byte: number): number {
  return byte ? 10 ** (((byte - 255) * DECADES) / 254) : 0;
}
