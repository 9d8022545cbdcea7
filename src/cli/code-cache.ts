// A CommonJS module with the code that V8 once made of it. V8 takes code only if its own version and flags, and the
// length of the source, are those it was made with; otherwise the module is loaded as any other, and Node may keep code of
// it (`NODE_COMPILE_CACHE`).

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { constants, Script } from 'node:vm'

/** A module's file, compiled but not run. */
export interface CompiledModule {
  readonly script: Script
  /** Runs the module; gives its exports. */
  run(): unknown
}

/** The name of the file with a module's code, by version, so that no other compiles the module in vain. */
export const codeCacheOf = (file: string): string => `${file}.v8-${process.versions.v8}`

/** Compiles a module as `require` does. The file has to be ASCII, which is quicker to read. */
export function compileModule(file: string, cachedData?: Buffer): CompiledModule {
  const source = readFileSync(file, 'latin1')
  const script = new Script(
    `(function(exports,require,module,__filename,__dirname){${source}\n})`,
    {
      filename: file,
      cachedData,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    },
  )
  const run = () => {
    const module = { exports: {} }
    const require = createRequire(file)
    script.runInThisContext()(module.exports, require, module, file, dirname(file))
    return module.exports
  }
  return { script, run }
}

/** Loads a module, by its code if that fits. */
export function requireCached(file: string): unknown {
  return cachedModule(file)?.run() ?? createRequire(file)(file)
}

function cachedModule(file: string): CompiledModule | undefined {
  let code: Buffer
  try {
    code = readFileSync(codeCacheOf(file))
  } catch {
    // Made without.
    return undefined
  }
  const compiled = compileModule(file, code)
  return compiled.script.cachedDataRejected ? undefined : compiled
}
