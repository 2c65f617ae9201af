"""The page's words in English and Korean. What data says stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "ko")
_WORDS = {
    "title": ("Fleet", "플릿"),
    "fleet": ("Fleet", "플릿"),
    "results": ("Results", "결과"),
    "jobs": ("Jobs", "작업"),
    "workers": ("Workers", "워커"),
    "watches": ("Watches", "감시"),
    "sites": ("Sites", "사이트"),
    "worker": ("Worker", "워커"),
    "watch": ("Watch", "감시"),
    "site": ("Site", "사이트"),
    "state": ("State", "상태"),
    "last": ("Last result", "마지막 결과"),
    "latest": ("Latest runs, newest right", "최근 실행, 오른쪽이 최신"),
    "now": ("Now", "지금"),
    "run": ("Run", "실행"),
    "job": ("Job", "작업"),
    "key": ("Key", "키"),
    "task": ("Task", "태스크"),
    "outcome": ("Outcome", "결말"),
    "exit": ("Exit", "출구"),
    "error": ("Why", "까닭"),
    "due": ("Due", "예정"),
    "attempts": ("Attempts left", "남은 시도"),
    "ended": ("Ended (UTC)", "끝난 때 (UTC)"),
    "seconds": ("Seconds", "초"),
    "stages": ("Stages", "단계"),
    "milliseconds": ("Milliseconds", "밀리초"),
    "answer": ("Answer", "답"),
    "arguments": ("Arguments", "인자"),
    "details": ("Details", "자세히"),
    "pictures": ("Pictures", "화면"),
    "picture": ("The page as the worker saw it", "워커가 본 화면"),
    "changed": ("What changed since the run before", "앞선 실행과 달라진 것"),
    "field": ("Field", "항목"),
    "then": ("Then", "그때"),
    "before": ("Earlier runs of this job", "이 작업의 앞선 실행"),
    "none": ("none", "없음"),
    "never": ("none lately", "최근 없음"),
    "ago": ("s ago", "초 전"),
    "more": ("Older", "더 오래된 것"),
    "next": ("Next", "다음"),
    "all": ("All", "모두"),
    "skip": ("To the content", "본문으로"),
    "live": ("Live", "실시간"),
    "still": ("As of the time it was loaded", "불러온 때의 상태"),
    "broken": ("The hub does not answer; this is old", "허브가 답하지 않습니다. 아래는 옛 상태입니다"),
    "database": ("The database does not answer.", "데이터베이스가 답하지 않습니다."),
    "missing": ("There is no such page.", "그런 페이지가 없습니다."),
    "calm": ("Nothing is wrong", "문제 없음"),
    "in_trouble": ("in trouble", "문제 있음"),
    "trouble_disk": ("The disk is full: no job begins", "디스크가 가득 차 작업이 시작되지 않습니다"),
    "trouble_workers": ("No worker is there", "워커가 하나도 없습니다"),
    "trouble_results": ("No good result lately", "최근에 좋은 결과가 없습니다"),
    "trouble_watches": (
        "A watch has no good result in time",
        "제때 좋은 결과를 내지 못한 감시가 있습니다",
    ),
    "fresh": ("in time", "제때"),
    "late": ("late", "늦음"),
    "working": ("working", "작업 중"),
    "busy": ("own task", "자체 태스크"),
    "away": ("away", "없음"),
    "resting": ("resting", "쉬는 중"),
    "waiting": ("waiting", "대기"),
    "paused": ("paused", "멈춤"),
    "slowed": ("slowed", "늦춤"),
    "running": ("running", "실행 중"),
    "quiet": ("quiet", "조용함"),
    "ready": ("ready", "준비"),
    "leased": ("running", "실행 중"),
    "aside": ("aside", "제쳐 둠"),
    "good": ("good", "좋음"),
    "empty": ("empty", "비어 있음"),
    "refused": ("refused", "거절됨"),
    "limited": ("limited", "제한됨"),
    "absent": ("absent", "페이지 없음"),
    "failed": ("failed", "실패"),
    "lost": ("lost", "잃음"),
    "cancelled": ("cancelled", "취소됨"),
}


def words(language: str) -> Mapping[str, str]:
    """Those of LANGUAGE, one of LANGUAGES."""
    at = LANGUAGES.index(language)
    return {key: both[at] for key, both in _WORDS.items()}


def language_of(accepted: str) -> str:
    """The first of an Accept-Language that is spoken here; English otherwise."""
    for part in accepted.split(","):
        if (found := part.strip()[:2].lower()) in LANGUAGES:
            return found
    return LANGUAGES[0]
