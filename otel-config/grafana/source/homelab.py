"""Homelab: the hardware of every host, from `obs-hub hostmetrics`."""

from __future__ import annotations

from model import Dashboard, Row, from_sql, sql
from panels import (
    BLUE,
    GREEN,
    HOST_LOGS,
    ORANGE,
    RED,
    YELLOW,
    bargauge,
    link,
    override,
    override_matching,
    stat,
    steps,
    table,
    timeseries,
)
from queries import HOST, VARIABLES, attribute, gauge, now, rate, resource, summed_gauge

HOSTS = from_sql(
    "host",
    "Host",
    """
SELECT DISTINCT host_name FROM metric_series
WHERE name IN ('system.memory.utilization', 'system.cpu.load_average.1m') AND host_name IS NOT NULL
ORDER BY 1""",
    "Hosts that have sent host metrics.",
)
OF_HOSTS = "host_name = ANY (ARRAY[$host]::text[])"
DEVICE, MOUNT_POINT = attribute("system.device"), attribute("system.filesystem.mountpoint")
INTERFACE = attribute("network.interface.name")
SENSOR = f"coalesce({attribute('hw.name')}, {attribute('hw.id')})"

FULL = steps((None, GREEN), (0.8, YELLOW), (0.9, ORANGE), (0.95, RED))
OF_HOST, OF_HOST_AND = "${__field.labels.host}", "${__field.labels.host} ${__field.labels."

SUMMARY = sql(
    now(
        (
            "system.cpu.utilization",
            "system.memory.utilization",
            "system.filesystem.utilization",
            "system.uptime",
            "hw.temperature",
        ),
        "host_name, attributes",
        OF_HOSTS,
    )
    + f"""
SELECT
  host_name AS "Host",
  1 - avg(value) FILTER (WHERE name = 'system.cpu.utilization' AND {attribute("cpu.mode")} = 'idle') AS "CPU",
  max(value) FILTER (WHERE name = 'system.memory.utilization' AND {attribute("system.memory.state")} = 'used')
    AS "Memory",
  max(value) FILTER (WHERE name = 'system.filesystem.utilization') AS "Fullest filesystem",
  max(value) FILTER (WHERE name = 'hw.temperature') AS "Hottest sensor",
  max(value) FILTER (WHERE name = 'system.uptime') AS "Up",
  max(time) AS "Last seen"
FROM latest
GROUP BY host_name
ORDER BY host_name""",
    "table",
)

UNTIL_FULL = sql(
    f"""
WITH used AS (
  SELECT host_name, {MOUNT_POINT} AS mount_point, time, sum(value) AS value
  FROM $points
  WHERE name = 'system.filesystem.usage' AND {attribute("system.filesystem.state")} = 'used' AND {OF_HOSTS}
    AND $__timeFilter(time)
  GROUP BY 1, 2, 3
), growth AS (
  SELECT host_name, mount_point, (array_agg(value ORDER BY time DESC))[1] AS used,
    86400 * regr_slope(value, extract(epoch FROM time)) AS a_day
  FROM used
  GROUP BY 1, 2
), free AS (
  SELECT DISTINCT ON (host_name, {MOUNT_POINT}) host_name, {MOUNT_POINT} AS mount_point, value AS free
  FROM $points
  WHERE name = 'system.filesystem.usage' AND {attribute("system.filesystem.state")} = 'free' AND {OF_HOSTS}
    AND $__timeFilter(time)
  ORDER BY 1, 2, time DESC
)
SELECT host_name AS "Host", mount_point AS "Mount point", used AS "Used", free AS "Free", a_day AS "Growth a day",
  CASE WHEN a_day > 1048576 THEN 86400 * free / a_day END AS "Full in"
FROM growth JOIN free USING (host_name, mount_point)
ORDER BY 6 NULLS LAST, 1, 2""",
    "table",
)

PROCESS, CONTAINER = resource("process.executable.name"), resource("container.name")

PROCESSES = sql(
    now(
        (
            "process.cpu.utilization",
            "process.memory.usage",
            "process.thread.count",
            "process.unix.file_descriptor.count",
            "process.uptime",
        ),
        "host_name, resource",
        OF_HOSTS,
    )
    + f"""
SELECT
  host_name AS "Host",
  {PROCESS} AS "Process",
  {resource("process.pid")} AS "PID",
  {resource("process.owner")} AS "Owner",
  sum(value) FILTER (WHERE name = 'process.cpu.utilization') AS "CPU",
  sum(value) FILTER (WHERE name = 'process.memory.usage') AS "Memory",
  sum(value) FILTER (WHERE name = 'process.thread.count') AS "Threads",
  sum(value) FILTER (WHERE name = 'process.unix.file_descriptor.count') AS "Open files",
  max(value) FILTER (WHERE name = 'process.uptime') AS "Up"
FROM latest
GROUP BY 1, 2, 3, 4
ORDER BY 5 DESC NULLS LAST, 1, 2, 3
LIMIT 100""",
    "table",
)

CONTAINERS = sql(
    now(
        (
            "container.cpu.usage",
            "container.memory.working_set",
            "container.memory.available",
            "container.restarts",
            "container.health.status",
            "container.uptime",
        ),
        "host_name, attributes, resource",
        OF_HOSTS,
    )
    + f"""
SELECT
  host_name AS "Host",
  {CONTAINER} AS "Container",
  {resource("container.image.name")} AS "Image",
  sum(value) FILTER (WHERE name = 'container.cpu.usage') AS "CPUs",
  max(value) FILTER (WHERE name = 'container.memory.working_set') AS "Memory",
  max(value) FILTER (WHERE name = 'container.memory.working_set')
    / nullif(sum(value) FILTER (WHERE name IN ('container.memory.working_set', 'container.memory.available')), 0)
    * CASE WHEN bool_or(name = 'container.memory.available') THEN 1 END AS "Of its limit",
  max(value) FILTER (WHERE name = 'container.restarts') AS "Restarts",
  max({attribute("container.health.state")}) FILTER (WHERE name = 'container.health.status' AND value > 0) AS "Health",
  max(value) FILTER (WHERE name = 'container.uptime') AS "Up"
FROM latest
GROUP BY 1, 2, 3, {resource("container.id")}
ORDER BY 4 DESC NULLS LAST, 1, 2
LIMIT 100""",
    "table",
)


def _gauge_column(high: float = 1, unit: str = "percentunit", thresholds: object = FULL) -> dict[str, object]:
    return {
        "unit": unit,
        "min": 0,
        "max": high,
        "decimals": 0,
        "thresholds": thresholds,
        "custom_cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
    }


HEAT = steps((None, BLUE), (60, GREEN), (75, YELLOW), (85, ORANGE), (95, RED))

DASHBOARD = Dashboard(
    uid="obs-hub-homelab",
    title="Homelab",
    description="Processors, memory, disks, filesystems, network, sensors, processes and containers of every host.",
    variables=(HOSTS, *VARIABLES),
    rows=(
        Row(
            "Overview",
            (
                table(
                    "Hosts",
                    SUMMARY,
                    description="The latest of each host in the last ten minutes. A host that is not here has stopped "
                    "sending. Click a host for its logs.",
                    overrides=(
                        override(
                            "Host",
                            links=[
                                link(
                                    "Logs of ${__value.text}",
                                    "/d/obs-hub-systemd/systemd-monitoring?var-host=${__value.text:percentencode}"
                                    "&${__url_time_range}",
                                )
                            ],
                        ),
                        override("CPU", **_gauge_column()),
                        override("Memory", **_gauge_column()),
                        override("Fullest filesystem", **_gauge_column()),
                        override("Hottest sensor", **_gauge_column(110, "celsius", HEAT)),
                        override("Up", unit="dtdurations", decimals=0),
                        override("Last seen", unit="dateTimeFromNow"),
                    ),
                    widths={
                        "CPU": 150,
                        "Memory": 150,
                        "Fullest filesystem": 160,
                        "Hottest sensor": 160,
                        "Up": 110,
                        "Last seen": 130,
                    },
                    width=20,
                    height=7,
                ),
                stat(
                    "Hosts seen",
                    sql(
                        now("system.uptime", "host_name", OF_HOSTS)
                        + "SELECT count(DISTINCT host_name) AS hosts FROM latest HAVING count(*) > 0",
                        "table",
                    ),
                    description="Hosts that have sent metrics in the last ten minutes.",
                    height=7,
                ),
            ),
        ),
        Row(
            "Processors and memory",
            (
                timeseries(
                    "CPU used",
                    sql(
                        gauge(
                            "system.cpu.utilization",
                            {"host": HOST},
                            f"{OF_HOSTS} AND {attribute('cpu.mode')} = 'idle'",
                            "1 - avg(value)",
                        )
                    ),
                    description="Time in which the processors had something to do, as a share of all processors.",
                    unit="percentunit",
                    name=OF_HOST,
                    high=1,
                    links=(HOST_LOGS,),
                ),
                timeseries(
                    "CPU by mode",
                    sql(
                        gauge(
                            "system.cpu.utilization",
                            {"mode": attribute("cpu.mode")},
                            f"{OF_HOSTS} AND {attribute('cpu.mode')} <> 'idle'",
                        )
                    ),
                    description="What the processors were busy with, on average over all processors of the "
                    "hosts chosen. "
                    "iowait is time in which nothing could run because of a disk; steal went to other virtual "
                    "machines.",
                    unit="percentunit",
                    name="${__field.labels.mode}",
                    stack=True,
                ),
                timeseries(
                    "Load",
                    sql(
                        gauge(
                            ("system.cpu.load_average.1m", "system.cpu.load_average.15m"),
                            {"host": HOST, "over": "replace(name, 'system.cpu.load_average.', '')"},
                            OF_HOSTS,
                        )
                    ),
                    description="Threads that run, wait for a processor or for a disk, averaged over a "
                    "minute and over 15.",
                    name=OF_HOST_AND + "over}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Memory used",
                    sql(
                        gauge(
                            "system.memory.utilization",
                            {"host": HOST},
                            f"{OF_HOSTS} AND {attribute('system.memory.state')} = 'used'",
                        )
                    ),
                    description="Memory that is not available to new processes. Caches count as available.",
                    unit="percentunit",
                    name=OF_HOST,
                    high=1,
                    thresholds=FULL,
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Swap used",
                    sql(
                        gauge(
                            "system.paging.usage",
                            {"host": HOST},
                            f"{OF_HOSTS} AND {attribute('system.paging.state')} = 'used'",
                        )
                    ),
                    description="Swap space in use. It matters when it grows together with the memory used.",
                    unit="bytes",
                    name=OF_HOST,
                    links=(HOST_LOGS,),
                    width=8,
                ),
            ),
        ),
        Row(
            "Filesystems and disks",
            (
                bargauge(
                    "Filesystems",
                    sql(
                        now("system.filesystem.utilization", f"host_name, {MOUNT_POINT} AS mount_point", OF_HOSTS)
                        + "SELECT concat_ws(' ', host_name, mount_point) AS filesystem, max(value) AS used\n"
                        "FROM latest GROUP BY 1 ORDER BY 2 DESC",
                        "table",
                    ),
                    description="How full each filesystem is now, as df has it.",
                    unit="percentunit",
                    thresholds=FULL,
                    width=10,
                ),
                table(
                    "Full when",
                    UNTIL_FULL,
                    description="When each filesystem is full if it goes on growing as it did in the time "
                    "range. Choose a "
                    "week or more for a forecast worth the name. Less than a MiB a day is not growth.",
                    overrides=(
                        override("Used", unit="bytes"),
                        override("Free", unit="bytes"),
                        override("Growth a day", unit="bytes"),
                        override(
                            "Full in",
                            unit="dtdurations",
                            decimals=0,
                            thresholds=steps((None, RED), (7 * 86_400, YELLOW), (30 * 86_400, GREEN)),
                            custom_cellOptions={"type": "color-text"},
                        ),
                    ),
                    widths={"Host": 110, "Used": 85, "Free": 85, "Growth a day": 110, "Full in": 100},
                    width=14,
                ),
                timeseries(
                    "Disk throughput",
                    sql(
                        rate(
                            "system.disk.io",
                            {"host": HOST, "device": DEVICE, "direction": attribute("disk.io.direction")},
                            OF_HOSTS,
                        )
                    ),
                    description="Bytes read and written a second. Devices made of others, such as dm-0, "
                    "count them once more.",
                    unit="Bps",
                    name=OF_HOST_AND + "device} ${__field.labels.direction}",
                    low=None,
                    links=(HOST_LOGS,),
                    overrides=(override_matching(" read$", custom_transform="negative-Y"),),
                ),
                timeseries(
                    "Disk busy",
                    sql(rate("system.disk.io_time", {"host": HOST, "device": DEVICE}, OF_HOSTS)),
                    description="Share of the time in which a disk had requests. A disk that is always busy "
                    "is what the rest "
                    "waits for.",
                    unit="percentunit",
                    name=OF_HOST_AND + "device}",
                    links=(HOST_LOGS,),
                ),
            ),
        ),
        Row(
            "Network",
            (
                timeseries(
                    "Network throughput",
                    sql(
                        rate(
                            "system.network.io",
                            {"host": HOST, "interface": INTERFACE, "direction": attribute("network.io.direction")},
                            f"{OF_HOSTS} AND {INTERFACE} <> 'lo'",
                        )
                    ),
                    description="Bytes a second through each interface but loopback; what is received points down.",
                    unit="Bps",
                    name=OF_HOST_AND + "interface} ${__field.labels.direction}",
                    low=None,
                    links=(HOST_LOGS,),
                    overrides=(override_matching(" receive$", custom_transform="negative-Y"),),
                ),
                timeseries(
                    "Packets lost",
                    sql(
                        rate(
                            ("system.network.errors", "system.network.packet.dropped"),
                            {
                                "host": HOST,
                                "interface": INTERFACE,
                                "what": "CASE name WHEN 'system.network.errors' THEN 'errors' ELSE 'dropped' END",
                            },
                            OF_HOSTS,
                        )
                    ),
                    description="Packets with errors, and packets dropped, a second. Normal is 0, or close to it.",
                    unit="pps",
                    name=OF_HOST_AND + "interface} ${__field.labels.what}",
                    links=(HOST_LOGS,),
                    width=6,
                ),
                timeseries(
                    "TCP connections",
                    sql(
                        gauge(
                            "system.network.connection.count",
                            {"host": HOST, "state": attribute("network.connection.state")},
                            f"{OF_HOSTS} AND {attribute('network.connection.state')} IN ('established', 'time_wait', "
                            "'close_wait', 'listen')",
                        )
                    ),
                    description="Connections by state. close_wait that only grows is a process that forgets to close.",
                    name=OF_HOST_AND + "state}",
                    width=6,
                ),
            ),
        ),
        Row(
            "Sensors and processes",
            (
                timeseries(
                    "Temperatures",
                    sql(
                        gauge(
                            "hw.temperature",
                            {"host": HOST, "sensor": SENSOR, "place": attribute("hw.sensor_location")},
                            OF_HOSTS,
                        )
                    ),
                    description="What the kernel's sensors measure. Virtual machines have none.",
                    unit="celsius",
                    name=OF_HOST_AND + "sensor} ${__field.labels.place}",
                    low=None,
                    thresholds=HEAT,
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Fans",
                    sql(gauge("hw.fan.speed", {"host": HOST, "fan": SENSOR}, OF_HOSTS)),
                    description="Speed of the fans. 0 is a fan that stands still, by design or by dust.",
                    unit="rotrpm",
                    name=OF_HOST_AND + "fan}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Processes",
                    sql(gauge("system.process.count", {"host": HOST, "state": attribute("process.state")}, OF_HOSTS)),
                    description="Processes by state. blocked ones wait for a disk; defunct ones for their "
                    "parent to take note of "
                    "their end.",
                    name=OF_HOST_AND + "state}",
                    stack=True,
                    width=8,
                ),
            ),
        ),
        Row(
            "Processes that use most",
            (
                timeseries(
                    "CPU of processes",
                    sql(summed_gauge("process.cpu.utilization", {"host": HOST, "process": PROCESS}, OF_HOSTS)),
                    description="Share of all processors of the host that the processes of each name used. Which "
                    "processes are here is chosen in the host metrics' settings.",
                    unit="percentunit",
                    name=OF_HOST_AND + "process}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Memory of processes",
                    sql(summed_gauge("process.memory.usage", {"host": HOST, "process": PROCESS}, OF_HOSTS)),
                    description="Resident memory of the processes of each name. What they share is counted in each.",
                    unit="bytes",
                    name=OF_HOST_AND + "process}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Disk throughput of processes",
                    sql(
                        rate(
                            "process.disk.io",
                            {"host": HOST, "process": PROCESS, "direction": attribute("disk.io.direction")},
                            OF_HOSTS,
                        )
                    ),
                    description="Bytes a second that the processes of each name had read from and written to disks. Of "
                    "other users' processes only root may see it.",
                    unit="Bps",
                    name=OF_HOST_AND + "process} ${__field.labels.direction}",
                    low=None,
                    links=(HOST_LOGS,),
                    overrides=(override_matching(" read$", custom_transform="negative-Y"),),
                    width=8,
                ),
                table(
                    "Processes now",
                    PROCESSES,
                    description="The latest of each process in the last ten minutes, those that use most first.",
                    overrides=(
                        override("CPU", unit="percentunit", decimals=1),
                        override("Memory", unit="bytes"),
                        override("Up", unit="dtdurations", decimals=0),
                    ),
                    widths={
                        "Host": 130,
                        "PID": 90,
                        "Owner": 130,
                        "CPU": 80,
                        "Memory": 100,
                        "Threads": 85,
                        "Open files": 95,
                        "Up": 110,
                    },
                ),
            ),
        ),
        Row(
            "Containers",
            (
                timeseries(
                    "CPU of containers",
                    sql(gauge("container.cpu.usage", {"host": HOST, "container": CONTAINER}, OF_HOSTS)),
                    description="Processors that each container used: 1 is one of them all the time.",
                    name=OF_HOST_AND + "container}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Memory of containers",
                    sql(gauge("container.memory.working_set", {"host": HOST, "container": CONTAINER}, OF_HOSTS)),
                    description="Memory of each container that cannot be given up, as docker stats has it.",
                    unit="bytes",
                    name=OF_HOST_AND + "container}",
                    links=(HOST_LOGS,),
                    width=8,
                ),
                timeseries(
                    "Network of containers",
                    sql(
                        rate(
                            "container.network.io",
                            {"host": HOST, "container": CONTAINER, "direction": attribute("network.io.direction")},
                            OF_HOSTS,
                        )
                    ),
                    description="Bytes a second through all interfaces of each container; what is received points "
                    "down. Rootless Podman tells nothing of it.",
                    unit="Bps",
                    name=OF_HOST_AND + "container} ${__field.labels.direction}",
                    low=None,
                    links=(HOST_LOGS,),
                    overrides=(override_matching(" receive$", custom_transform="negative-Y"),),
                    width=8,
                ),
                table(
                    "Containers now",
                    CONTAINERS,
                    description="The latest of each container in the last ten minutes. Of its limit is there where it "
                    "has a memory limit, Health where it has a health check.",
                    overrides=(
                        override("CPUs", decimals=2),
                        override("Memory", unit="bytes"),
                        override("Of its limit", **_gauge_column()),
                        override(
                            "Restarts",
                            thresholds=steps((None, GREEN), (1, YELLOW), (10, RED)),
                            custom_cellOptions={"type": "color-text"},
                        ),
                        override("Up", unit="dtdurations", decimals=0),
                    ),
                    widths={
                        "Host": 130,
                        "Image": 200,
                        "CPUs": 80,
                        "Memory": 100,
                        "Of its limit": 130,
                        "Restarts": 85,
                        "Health": 100,
                        "Up": 110,
                    },
                ),
            ),
        ),
    ),
)
