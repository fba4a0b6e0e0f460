<?php
// As much of Orchestra's testbench as Laravel's tests of its cache need: an application with a cache and Redis.

namespace Orchestra\Testbench;

use Illuminate\Cache\CacheServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Foundation\Application;
use Illuminate\Redis\RedisServiceProvider;
use Illuminate\Support\Facades\Facade;

abstract class TestCase extends \PHPUnit\Framework\TestCase
{
    protected $app;

    protected function setUp(): void
    {
        $server = ['host' => getenv('REDIS_HOST'), 'port' => getenv('REDIS_PORT')];
        $this->app = new Application(sys_get_temp_dir());
        $this->app->instance('config', new Repository([
            'cache' => [
                'default' => 'redis',
                'prefix' => 'laravel_cache',
                'stores' => ['redis' => ['driver' => 'redis', 'connection' => 'cache', 'lock_connection' => 'default']],
            ],
            'database' => ['redis' => [
                'client' => 'phpredis',
                'default' => $server + ['database' => 0],
                'cache' => $server + ['database' => 1],
            ]],
        ]));
        Facade::clearResolvedInstances();
        Facade::setFacadeApplication($this->app);
        $this->app->register(CacheServiceProvider::class);
        $this->app->register(RedisServiceProvider::class);
    }

    protected function tearDown(): void
    {
        \Mockery::close();
    }
}
