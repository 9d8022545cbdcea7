// Huge pages and page merging as a host's files show them.
import { expect, it } from 'vitest'
import { hostFiles } from '../../src/core/host/host-files.js'
import { readHostMemory } from '../../src/core/host/host-memory.js'
import { hostTree } from '../helpers/host-tree.js'

const MM = '/sys/kernel/mm'

it('reads every fact in bytes and pages', () => {
  using tree = hostTree({
    '/proc/meminfo': 'MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:     500 kB',
    [`${MM}/transparent_hugepage/enabled`]: 'always [madvise] never',
    [`${MM}/transparent_hugepage/defrag`]: 'always defer [defer+madvise] madvise never',
    [`${MM}/hugepages/hugepages-1048576kB/nr_hugepages`]: '0',
    [`${MM}/hugepages/hugepages-2048kB/nr_hugepages`]: '64',
    [`${MM}/hugepages/hugepages-2048kB/free_hugepages`]: '60',
    [`${MM}/hugepages/hugepages-2048kB/resv_hugepages`]: '2',
    [`${MM}/hugepages/hugepages-2048kB/surplus_hugepages`]: '1',
    [`${MM}/hugepages/hugepages-2048kB/nr_overcommit_hugepages`]: '8',
    [`${MM}/ksm/run`]: '1',
    [`${MM}/ksm/pages_shared`]: '3',
    [`${MM}/ksm/pages_sharing`]: '12',
  })
  const empty = { total: 0, free: 0, reserved: 0, surplus: 0, overcommit: 0 }
  expect(readHostMemory(hostFiles(tree.root))).toEqual({
    total: 1_024_000,
    available: 512_000,
    transparentHugePages: { enabled: 'madvise', defrag: 'defer+madvise', shmemEnabled: null },
    hugePagePools: [
      { pageSize: 2 ** 21, total: 64, free: 60, reserved: 2, surplus: 1, overcommit: 8 },
      { pageSize: 2 ** 30, ...empty },
    ],
    ksm: { state: 'running', pagesShared: 3, pagesSharing: 12 },
  })
})

it.each([
  ['0', 'stopped'],
  ['2', 'unmerged'],
  ['7', null],
])('names the state %s of KSM %s', (run, state) => {
  using tree = hostTree({ [`${MM}/ksm/run`]: run })
  expect(readHostMemory(hostFiles(tree.root)).ksm).toMatchObject({ state })
})

it('says what a kernel is built without', () => {
  using tree = hostTree({})
  expect(readHostMemory(hostFiles(tree.root))).toEqual({
    total: null,
    available: null,
    transparentHugePages: null,
    hugePagePools: [],
    ksm: null,
  })
})
