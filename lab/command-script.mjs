// @ts-check
// Carries a command into a machine as a shell script, so that no boot command line has to quote it.

/** @param {string} text */
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`

/** What a shell sets for itself. */
const OWN_VARIABLES = new Set(['_', 'OLDPWD', 'PWD', 'SHLVL'])

/**
 * Writes a POSIX shell script that becomes a command.
 *
 * @param {object} what
 * @param {string[]} what.command program and arguments
 * @param {string} what.directory working directory
 * @param {NodeJS.ProcessEnv} what.environment names that a shell cannot set are left out
 * @returns {string}
 */
export function commandScript({ command, directory, environment }) {
  const variables = Object.entries(environment).filter(
    ([name]) => /^[A-Za-z_]\w*$/.test(name) && !OWN_VARIABLES.has(name),
  )
  const lines = [
    ...variables.map(([name, value]) => `export ${name}=${quote(value ?? '')}`),
    `cd ${quote(directory)} || exit 126`,
    `exec ${command.map(quote).join(' ')}`,
  ]
  return `${lines.join('\n')}\n`
}
