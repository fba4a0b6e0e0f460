<?php

// Calls examples/leases/cache_aside.php as tests/server/examples.rs describes: each caller is a process of its own, as
// a request is, and appends a byte to a file for each load.

require __DIR__ . '/../../../examples/leases/cache_aside.php';

function call(string $key, int $ms, string $what, string $loads): string
{
    $load = function () use ($ms, $what, $loads): ?string {
        file_put_contents($loads, '.', FILE_APPEND | LOCK_EX);
        usleep($ms * 1000);
        if ($what === 'fail') {
            throw new RuntimeException('the origin is down');
        }
        return $what === 'nothing' ? null : hex2bin($what);
    };
    try {
        $value = cached($key, $load);
    } catch (RuntimeException $error) {
        if ($error->getMessage() !== 'the origin is down') {
            throw $error;
        }
        return 'failed';
    }
    return $value === null ? 'nothing' : bin2hex($value);
}

if ($argc > 1) {
    // What is registered for the end of the request runs after this.
    fwrite(STDOUT, call($argv[1], (int) $argv[2], $argv[3], $argv[4]) . "\n");
    return;
}

$loads = tempnam(sys_get_temp_dir(), 'loads');
register_shutdown_function('unlink', $loads);
$running = []; // a handle that is dropped would be waited for
while (($line = fgets(STDIN)) !== false) {
    $words = explode(' ', trim($line));
    if ($words[0] === 'loads') {
        clearstatcache();
        echo filesize($loads), "\n";
        continue;
    }
    [, $key, $callers, $ms, $what] = $words;
    $answers = [];
    for ($n = 0; $n < $callers; $n++) {
        $running[] = proc_open([PHP_BINARY, __FILE__, $key, $ms, $what, $loads], [1 => ['pipe', 'w']], $pipes);
        $answers[] = $pipes[1];
        usleep(5000);
    }
    $counts = array_count_values(array_map(fn ($answer) => trim(fgets($answer)), $answers));
    ksort($counts, SORT_STRING);
    echo implode(' ', array_map(fn ($answer, $n) => "$answer*$n", array_keys($counts), $counts)), "\n";
}
