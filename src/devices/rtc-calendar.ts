// The time registers of an MC146818 against milliseconds since the epoch. Registers are bytes in
// BCD or binary, hours count to 12 or 24, as register B says (MC146818A, "Time, calendar, and alarm
// locations").

/** Offsets of the time and calendar bytes in CMOS RAM. */
export const RTC_TIME = {
  seconds: 0x00,
  minutes: 0x02,
  hours: 0x04,
  weekday: 0x06,
  day: 0x07,
  month: 0x08,
  year: 0x09,
  /** Not of the chip but of the PC: the century, in the firmware's RAM. */
  century: 0x32,
} as const

/** Offsets of the alarm bytes in CMOS RAM. */
export const RTC_ALARM = { seconds: 0x01, minutes: 0x03, hours: 0x05 } as const

const REGISTER_B = 0x0b
const MODE_24_HOURS = 0x02
const MODE_BINARY = 0x04
const PM = 0x80
const ALARM_ANY = 0xc0
const DAY_SECONDS = 86_400

const encode = (value: number, mode: number): number =>
  (mode & MODE_BINARY) !== 0 ? value : (Math.floor(value / 10) << 4) | (value % 10)

const decode = (value: number, mode: number): number =>
  (mode & MODE_BINARY) !== 0 ? value : (value >>> 4) * 10 + (value & 0x0f)

const encodeHours = (hours: number, mode: number): number => {
  if ((mode & MODE_24_HOURS) !== 0) return encode(hours, mode)
  return encode(hours % 12 || 12, mode) | (hours >= 12 ? PM : 0)
}

const decodeHours = (value: number, mode: number): number => {
  if ((mode & MODE_24_HOURS) !== 0) return decode(value, mode)
  return (decode(value & ~PM, mode) % 12) + ((value & PM) !== 0 ? 12 : 0)
}

/** Writes a time (milliseconds since the epoch, UTC) into the time registers of `ram`. */
export function encodeRtcTime(timeMs: number, ram: Uint8Array): void {
  const mode = ram[REGISTER_B]!
  const date = new Date(timeMs)
  const year = date.getUTCFullYear()
  ram[RTC_TIME.seconds] = encode(date.getUTCSeconds(), mode)
  ram[RTC_TIME.minutes] = encode(date.getUTCMinutes(), mode)
  ram[RTC_TIME.hours] = encodeHours(date.getUTCHours(), mode)
  ram[RTC_TIME.weekday] = encode(date.getUTCDay() + 1, mode)
  ram[RTC_TIME.day] = encode(date.getUTCDate(), mode)
  ram[RTC_TIME.month] = encode(date.getUTCMonth() + 1, mode)
  ram[RTC_TIME.year] = encode(year % 100, mode)
  ram[RTC_TIME.century] = encode(Math.floor(year / 100), mode)
}

/**
 * The time (milliseconds since the epoch, UTC) in the time registers of `ram`. Impossible values
 * carry over as in a calendar sum: the 31st of April is the 1st of May.
 */
export function decodeRtcTime(ram: Uint8Array): number {
  const mode = ram[REGISTER_B]!
  const get = (register: number): number => decode(ram[register]!, mode)
  const date = new Date(0)
  // Not Date.UTC, which takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(
    get(RTC_TIME.century) * 100 + get(RTC_TIME.year),
    get(RTC_TIME.month) - 1,
    get(RTC_TIME.day),
  )
  const hours = decodeHours(ram[RTC_TIME.hours]!, mode)
  return date.setUTCHours(hours, get(RTC_TIME.minutes), get(RTC_TIME.seconds))
}

/**
 * The first second after `second` (both seconds since the epoch) at which the alarm registers of
 * `ram` match. A register with its two top bits set matches anything. `undefined` when the
 * registers hold no time of day.
 */
export function nextRtcAlarm(ram: Uint8Array, second: number): number | undefined {
  const mode = ram[REGISTER_B]!
  const wanted = (register: number, decoder: typeof decode): number => {
    const value = ram[register]!
    return value >= ALARM_ANY ? -1 : decoder(value, mode)
  }
  const hours = wanted(RTC_ALARM.hours, decodeHours)
  const minutes = wanted(RTC_ALARM.minutes, decode)
  const seconds = wanted(RTC_ALARM.seconds, decode)
  const matches = (value: number, field: number): boolean => field < 0 || field === value

  let at = second + 1
  // Jumps over hours and minutes that cannot match: at most some 150 steps for a whole day.
  while (at <= second + DAY_SECONDS) {
    const ofDay = ((at % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS
    if (!matches(Math.floor(ofDay / 3600), hours)) at += 3600 - (ofDay % 3600)
    else if (!matches(Math.floor(ofDay / 60) % 60, minutes)) at += 60 - (ofDay % 60)
    else if (!matches(ofDay % 60, seconds)) at += 1
    else return at
  }
  return undefined
}
