// What a benchmark says: figures beside goals, as a table for people or as JSON.

import { availableParallelism, cpus } from 'node:os'
import { type Comparison, quantile } from './harness.js'

/** At most so much more than C. */
export interface Goal {
  extraNs?: number
  extraPercent?: number
}

/** One line of a report. */
export interface Row extends Comparison {
  id: string
  what: string
  goal?: Goal
  /** By CPU time. */
  met?: boolean
}

/** Memory that operations took. */
export interface AllocationRow {
  id: string
  what: string
  operations: number
  /** Of all operations together; null when the garbage collector had to run. */
  bytes: number | null
  bytesPerOperation: number | null
  goal: { bytesPerOperation: number }
  met: boolean
}

/** Of many durations, in nanoseconds. */
export interface Quantiles {
  p50: number
  p90: number
  p99: number
}

/** At most so long, or so many times as long as C. */
export interface LatencyGoal {
  p50Us?: number
  p50Ratio?: number
  /** So much longer than C. */
  p50ExtraUs?: number
}

/** Durations that vary too much for their mean to say anything. */
export interface LatencyRow {
  id: string
  what: string
  /** Of one side. */
  samples: number
  c: Quantiles
  ours: Quantiles
  goal?: LatencyGoal
  met?: boolean
}

/** Something that takes milliseconds, in parts. */
export interface PhaseRow {
  id: string
  what: string
  phases: readonly string[]
  /** Nanoseconds, medians. */
  c: readonly number[]
  ours: readonly number[]
  /** Of the sums. */
  ratio: number
  goal: { ratio: number }
  met: boolean
}

/** What an operation costs: until it is done, and CPU time of the whole process. Nanoseconds. */
export interface PeerFigures {
  ns: number
  cpuNs: number
  /** Exits to user space. */
  exits?: number
}

/** The same work done by another program. */
export interface PeerRow {
  id: string
  what: string
  peer: string
  theirs: PeerFigures
  ours: PeerFigures
  /** Ours of theirs. */
  ratio: number
  cpuRatio: number
  goal: { ratio: number; cpuRatio: number }
  met: boolean
}

/** What a benchmark found. */
export interface Report {
  rows: Row[]
  allocations: AllocationRow[]
  latencies?: LatencyRow[]
  phases?: PhaseRow[]
  peers?: PeerRow[]
}

/** Puts a comparison beside its goal. */
export function row(id: string, what: string, comparison: Comparison, goal?: Goal): Row {
  if (goal === undefined) return { id, what, ...comparison }
  const { c, extra } = comparison.cpu
  const limit = Math.min(goal.extraNs ?? Infinity, ((goal.extraPercent ?? Infinity) / 100) * c)
  return { id, what, ...comparison, goal, met: extra <= limit }
}

/** An allocation does not hide in rounding: the smallest, in one of 80 operations, shows as 0.1. */
export function allocationRow(
  id: string,
  what: string,
  operations: number,
  bytes: number | undefined,
): AllocationRow {
  const each = bytes === undefined ? null : Math.round((bytes / operations) * 10) / 10
  const goal = { bytesPerOperation: 0 }
  return {
    id,
    what,
    operations,
    bytes: bytes ?? null,
    bytesPerOperation: each === 0 ? 0 : each,
    goal,
    met: each !== null && each <= 0,
  }
}

/** Puts durations beside their goal. */
export function latencyRow(
  id: string,
  what: string,
  c: readonly number[],
  ours: readonly number[],
  goal?: LatencyGoal,
): LatencyRow {
  const of = (times: readonly number[]): Quantiles => ({
    p50: quantile(times, 0.5),
    p90: quantile(times, 0.9),
    p99: quantile(times, 0.99),
  })
  const row = { id, what, samples: ours.length, c: of(c), ours: of(ours) }
  if (goal === undefined) return row
  const limit = Math.min(
    (goal.p50Us ?? Infinity) * 1000,
    (goal.p50Ratio ?? Infinity) * row.c.p50,
    (goal.p50ExtraUs ?? Infinity) * 1000 + row.c.p50,
  )
  return { ...row, goal, met: row.ours.p50 <= limit }
}

/** Puts parts beside each other, and their sums beside the goal. */
export function phaseRow(
  id: string,
  what: string,
  phases: readonly string[],
  c: readonly number[],
  ours: readonly number[],
  most: number,
): PhaseRow {
  const ratio = sum(ours) / sum(c)
  return { id, what, phases, c, ours, ratio, goal: { ratio: most }, met: ratio <= most }
}

/** Puts another program's figures beside ours: by default we are to be no slower, and to need no more. */
export function peerRow(
  id: string,
  what: string,
  peer: string,
  theirs: PeerFigures,
  ours: PeerFigures,
  goal: PeerRow['goal'] = { ratio: 1, cpuRatio: 1 },
): PeerRow {
  const ratio = ours.ns / theirs.ns
  const cpuRatio = ours.cpuNs / theirs.cpuNs
  const met = ratio <= goal.ratio && cpuRatio <= goal.cpuRatio
  return { id, what, peer, theirs, ours, ratio, cpuRatio, goal, met }
}

const sum = (times: readonly number[]) => times.reduce((all, time) => all + time, 0)

/** One object with everything. */
export function toJson(name: string, report: Report): string {
  const machine = { cpu: cpus()[0]?.model, cpus: availableParallelism(), node: process.version }
  return JSON.stringify({ benchmark: name, unit: 'ns', machine, ...report })
}

/** A table of the thread's CPU time, with the wall clock's difference beside it. */
export function toTable(name: string, report: Report): string {
  if (report.phases !== undefined) return phaseLines(name, report.phases).join('\n')
  if (report.peers !== undefined) return peerLines(name, report.peers).join('\n')
  const lines = [['', 'C', 'ours', 'extra', '', 'ratio', 'wall extra', 'goal', '']]
  for (const { what, cpu, wall, goal, met } of report.rows) {
    lines.push([
      what,
      cpu.c.toFixed(1),
      cpu.ours.toFixed(1),
      signed(cpu.extra),
      `±${cpu.error.toFixed(1)}`,
      (1 + cpu.extra / cpu.c).toFixed(3),
      signed(wall.extra),
      goalText(goal),
      verdict(met),
    ])
  }
  const text = [`${name}: ns for one operation, CPU time, medians`, '', ...align(lines)]
  for (const { what, operations, bytes, bytesPerOperation, met } of report.allocations) {
    const found =
      bytes === null ? 'so many bytes that they were collected' : `${bytes} bytes allocated`
    const each = bytesPerOperation === null ? '' : `, ${bytesPerOperation.toFixed(1)} each`
    text.push('', `${what}: ${operations} operations, ${found}${each}  ${verdict(met)}`)
  }
  if (report.latencies !== undefined) text.push('', ...latencyLines(report.latencies))
  return text.join('\n')
}

function phaseLines(name: string, rows: readonly PhaseRow[]): string[] {
  const { phases } = rows[0]!
  const lines = [[`${name}, ms: C, ours`, ...phases.flatMap((it) => [it, '']), 'all', '', '', '']]
  for (const { what, c, ours, ratio, goal, met } of rows) {
    const pairs = [...phases.map((_, i) => [c[i]!, ours[i]!]), [sum(c), sum(ours)]].flat()
    const figures = pairs.map((time) => (time / 1e6).toFixed(1))
    lines.push([what, ...figures, `${ratio.toFixed(2)} of ≤ ${goal.ratio}`, verdict(met)])
  }
  return align(lines)
}

function peerLines(name: string, rows: readonly PeerRow[]): string[] {
  const head = ['ours', 'ratio', 'CPU', 'ours', 'ratio', 'exits', 'ours', '']
  const lines = [[`${name}, us each`, rows[0]!.peer, ...head]]
  for (const { what, theirs, ours, ratio, cpuRatio, met } of rows) {
    const us = (ns: number) => (ns / 1000).toFixed(1)
    const exits = ({ exits }: PeerFigures) => exits?.toFixed(2) ?? ''
    lines.push([
      ...[what, us(theirs.ns), us(ours.ns), ratio.toFixed(2)],
      ...[us(theirs.cpuNs), us(ours.cpuNs), cpuRatio.toFixed(2)],
      ...[exits(theirs), exits(ours), verdict(met)],
    ])
  }
  return align(lines)
}

function latencyLines(rows: readonly LatencyRow[]): string[] {
  const lines = [['us: p50, p90, p99', 'C', '', '', 'ours', '', '', 'goal for p50', '']]
  for (const { what, c, ours, goal, met } of rows) {
    const figures = [c, ours].flatMap(({ p50, p90, p99 }) =>
      [p50, p90, p99].map((time) => (time / 1000).toFixed(1)),
    )
    lines.push([what, ...figures, latencyGoalText(goal), verdict(met)])
  }
  return align(lines)
}

function latencyGoalText(goal: LatencyGoal | undefined): string {
  if (goal === undefined) return ''
  if (goal.p50ExtraUs !== undefined) return `≤ C + ${goal.p50ExtraUs}`
  return goal.p50Us === undefined ? `≤ ${goal.p50Ratio} C` : `≤ ${goal.p50Us}`
}

function signed(value: number): string {
  return (value < 0 ? '' : '+') + value.toFixed(1)
}

function goalText(goal: Goal | undefined): string {
  if (goal === undefined) return ''
  return goal.extraNs === undefined ? `≤ ${goal.extraPercent} %` : `≤ ${goal.extraNs} ns`
}

function verdict(met: boolean | undefined): string {
  if (met === undefined) return ''
  return met ? 'met' : 'MISSED'
}

/** The first column to the left, the others to the right. */
function align(lines: readonly string[][]): string[] {
  const widths = lines[0]!.map((_, column) =>
    Math.max(...lines.map((cells) => cells[column]!.length)),
  )
  return lines.map((cells) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  )
}
