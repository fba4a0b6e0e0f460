<?php
// Lets PHPUnit run tests of Laravel from its source tree, with Debian's packages for what Laravel needs.

error_reporting(E_ALL & ~E_DEPRECATED);

spl_autoload_register(function (string $class) {
    $source = getcwd();
    $places = ['Illuminate\\Tests\\' => "$source/tests/", 'Illuminate\\' => "$source/src/Illuminate/"];
    foreach ($places as $prefix => $folder) {
        $file = $folder.str_replace('\\', '/', substr($class, strlen($prefix))).'.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;
            return;
        }
    }
    // Classes beside others in one folder: Macroable, Conditionable and collections have packages of their own.
    foreach (['Macroable', 'Conditionable', 'Collections'] as $package) {
        $file = "$source/src/Illuminate/$package/".str_replace('\\', '/', substr($class, strlen('Illuminate\\Support\\'))).'.php';
        if (str_starts_with($class, 'Illuminate\\Support\\') && is_file($file)) {
            require $file;
            return;
        }
    }
});
require getcwd().'/src/Illuminate/Collections/helpers.php';
require getcwd().'/src/Illuminate/Support/helpers.php';
require getcwd().'/src/Illuminate/Foundation/helpers.php';
foreach (['Carbon', 'Predis', 'Mockery', 'Dotenv', 'Doctrine/Inflector', 'Psr/Container', 'Psr/SimpleCache', 'Ramsey/Uuid', 'Symfony/Component/HttpKernel'] as $package) {
    require "/usr/share/php/$package/autoload.php";
}
require __DIR__.'/laravel_testbench.php';
