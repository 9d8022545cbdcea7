// How much may be under way (virtio 1.2 §5.10.6.3): each side says how much room it has for a connection,
// and how much of what came it has handed on. Counts are of 32 bits and wrap.

import { ByteQueue } from '../byte-queue.js'

/** Bytes that a connection keeps for its reader, beside what the stream itself does. */
export const RECEIVE_BUFFER = 0x4_0000
/** A message without bytes costs no credit, so messages are counted. */
const MOST_MESSAGES = 1024

/** What is known of the other side's room. */
export class SendCredit {
  #sent = 0
  #room = 0
  #forwarded = 0

  /** The other side said how much it has room for, and how much it has handed on. */
  update(room: number, forwarded: number): void {
    this.#room = room
    this.#forwarded = forwarded
  }

  /** Bytes that may be sent. */
  get available(): number {
    // What a liar says may be below zero.
    return Math.max(0, this.#room - ((this.#sent - this.#forwarded) >>> 0))
  }

  /** All the room there is, free or not. */
  get room(): number {
    return this.#room
  }

  /** So many were sent. */
  spend(bytes: number): void {
    this.#sent = (this.#sent + bytes) >>> 0
  }
}

/** What has come and waits for the reader: bytes, or messages. */
export class ReceiveBuffer {
  readonly #messages: Uint8Array[] | undefined
  readonly #bytes = new ByteQueue()
  #held = 0
  #forwarded = 0
  #told = 0

  /** @param keepsMessages whether the boundaries of messages count */
  constructor(keepsMessages: boolean) {
    this.#messages = keepsMessages ? [] : undefined
  }

  /** What the other side is to be told of this one. */
  tell(): { readonly bufAlloc: number; readonly fwdCnt: number } {
    this.#told = this.#forwarded
    return { bufAlloc: RECEIVE_BUFFER, fwdCnt: this.#forwarded }
  }

  /** Whether the other side believes that there is little room, and is wrong. */
  get isNewsworthy(): boolean {
    const freed = (this.#forwarded - this.#told) >>> 0
    return freed > 0 && this.#held + freed >= RECEIVE_BUFFER / 2
  }

  /** Whether so much more is what the other side may send. */
  hasRoom(length: number): boolean {
    return this.#held + length <= RECEIVE_BUFFER && (this.#messages?.length ?? 0) < MOST_MESSAGES
  }

  /** Takes a payload, for which there is room. `ends` a message. */
  append(payload: Uint8Array, ends: boolean): void {
    this.#held += payload.length
    this.#bytes.append(payload)
    if (this.#messages === undefined || !ends) return
    this.#messages.push(this.#bytes.takeAll())
  }

  /** What the reader gets next. */
  shift(): Uint8Array | undefined {
    const next = (this.#messages ?? this.#bytes).shift()
    if (next === undefined) return undefined
    this.#held -= next.length
    this.#forwarded = (this.#forwarded + next.length) >>> 0
    return next
  }

  /** Drops everything. */
  clear(): void {
    this.#bytes.clear()
    if (this.#messages) this.#messages.length = 0
    this.#held = 0
  }
}
