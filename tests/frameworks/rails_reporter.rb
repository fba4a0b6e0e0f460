# Loaded before Rails' own tests: stands in for bundler, and writes what became of each test to $RESULTS, a line each.
$LOADED_FEATURES << "bundler/setup.rb"
require "minitest"

module ResultLines
  class Reporter < Minitest::AbstractReporter
    def record(result)
      outcome = result.skipped? ? "skipped" : result.passed? ? "passed" : "failed"
      File.write(ENV["RESULTS"], "#{outcome}\t#{result.klass}##{result.name}\n", mode: "a")
    end
  end
end

module Minitest
  def self.plugin_result_lines_init(_options)
    reporter << ResultLines::Reporter.new
  end
  extensions << "result_lines"
end
