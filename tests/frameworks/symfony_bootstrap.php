<?php
// Lets PHPUnit run the tests of Symfony's cache and lock from their source tree, with Debian's packages for the rest.

error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);

spl_autoload_register(function (string $class) {
    $places = [
        'Symfony\\Contracts\\' => getcwd().'/src/Symfony/Contracts/',
        'Symfony\\' => getcwd().'/src/Symfony/',
        'Cache\\IntegrationTests\\' => '/usr/share/php/Cache/IntegrationTests/',
    ];
    foreach ($places as $prefix => $folder) {
        $file = $folder.str_replace('\\', '/', substr($class, strlen($prefix))).'.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;
            return;
        }
    }
});
foreach (['Psr/Cache', 'Psr/SimpleCache', 'Psr/Log', 'Psr/Container', 'Predis'] as $package) {
    if (is_file("/usr/share/php/$package/autoload.php")) {
        require "/usr/share/php/$package/autoload.php";
    }
}
